// Package gitlabtest is a stand-in for GitLab, for tests: its API as far as it verifies runners.
// https://docs.gitlab.com/api/runners/#verify-authentication-for-a-registered-runner
package gitlabtest

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
)

const endpoint = "/api/v4/runners/verify"

// Server is a GitLab that knows some runners. Below some paths, such as /moved, something else answers.
// It also is a proxy for any host that it is asked for.
type Server struct {
	*httptest.Server
	tokens []string

	mu    sync.Mutex
	asked []Question
}

// Question is what a client has asked.
type Question struct {
	// URL is as the client wrote it: with a host where it has asked a proxy.
	URL  string
	Form url.Values
}

// troubles are what may answer in GitLab's place, by the path below which it does.
var troubles = map[string]http.HandlerFunc{
	"/moved": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example/login?x=y", http.StatusFound)
	},
	"/portal": func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<!DOCTYPE html><title>Welcome to our Wi-Fi</title>")
	},
	"/absent": http.NotFound,
	"/down":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>502</html>", http.StatusBadGateway) },
	"/busy": func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusTooManyRequests, `{"message":"Retry later"}`)
	},
	"/orphan": func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusUnprocessableEntity, `{"message":"Runner is orphaned"}`)
	},
	"/echo": func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusForbidden, fmt.Sprintf(`{"message":"no such token: %s"}`, r.PostFormValue("token")))
	},
	"/old": func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "200") },
}

func answer(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprint(w, body)
}

// New starts a server that knows the runners with these tokens; NewTLS one whose certificate nobody trusts but who is told to.
func New(tokens ...string) *Server {
	s := &Server{tokens: tokens}
	s.Server = httptest.NewServer(s)
	return s
}

// NewTLS is New with a certificate.
func NewTLS(tokens ...string) *Server {
	s := &Server{tokens: tokens}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that don't trust it end the handshake
	s.StartTLS()
	return s
}

// Asked are the questions so far.
func (s *Server) Asked() []Question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		answer(w, http.StatusBadRequest, `{"error":"no form"}`)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, Question{r.RequestURI, r.PostForm})
	s.mu.Unlock()
	for path, trouble := range troubles {
		if strings.HasPrefix(r.URL.Path, path+"/") {
			trouble(w, r)
			return
		}
	}
	switch token := r.PostForm.Get("token"); {
	case r.Method != http.MethodPost || r.URL.Path != endpoint:
		http.NotFound(w, r)
	case token == "":
		answer(w, http.StatusBadRequest, `{"error":"token is missing"}`)
	case !slices.Contains(s.tokens, token):
		answer(w, http.StatusForbidden, `{"message":"403 Forbidden"}`)
	case !strings.HasPrefix(r.PostForm.Get("system_id"), "r_") && !strings.HasPrefix(r.PostForm.Get("system_id"), "s_"):
		// GitLab takes this, too, and lists a host named <legacy> from then on.
		answer(w, http.StatusBadRequest, `{"error":"system_id is missing"}`)
	default:
		answer(w, http.StatusOK, fmt.Sprintf(`{"id":1,"token":%q,"token_expires_at":null}`, token))
	}
}
