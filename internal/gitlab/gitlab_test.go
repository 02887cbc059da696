package gitlab_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/gitlab"
	"gitlab-runner-tart-driver/internal/gitlab/gitlabtest"
)

const token = "glrt-abcdefghijklmnop"

func TestVerify(t *testing.T) {
	server := gitlabtest.New(token)
	defer server.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + nobody.Addr().String()
	nobody.Close()
	for _, c := range []struct {
		name, url, token string
		is               error
		says             string
	}{
		{"good", server.URL, token, nil, ""},
		{"good, in GitLab Runner's older form", server.URL + "/ci/", token, nil, ""},
		{"an old GitLab", server.URL + "/old", token, nil, ""},
		{"unknown", server.URL, "glrt-unknown", gitlab.ErrRefused, "GitLab refuses the runner's token (403 Forbidden)"},
		{"orphan", server.URL + "/orphan", token, gitlab.ErrRefused, "(Runner is orphaned)"},
		{"one who echoes", server.URL + "/echo", token, gitlab.ErrRefused, "(no such token: [MASKED])"},
		{"group", server.URL + "/my-group", token, gitlab.ErrNotGitLab, "no GitLab answers (404 Not Found, text/plain)"},
		{"portal", server.URL + "/portal", token, gitlab.ErrNotGitLab, "no GitLab answers (200 OK, text/html)"},
		{"moved", server.URL + "/moved", token, gitlab.ErrMoved, "leads to another address, https://elsewhere.example"},
		{"down", server.URL + "/down", token, nil, "GitLab can't answer now (502 Bad Gateway)"},
		{"busy", server.URL + "/busy", token, nil, "GitLab can't answer now (429 Too Many Requests)"},
		{"no token", server.URL, "", nil, "GitLab does not understand the question (token is missing)"},
		{"nobody", closed, token, nil, closed + " can't be reached: dial tcp"},
		{"no such host", "https://gitlab.invalid", token, nil, "https://gitlab.invalid can't be reached: "},
	} {
		err := gitlab.Verify(t.Context(), gitlab.Runner{URL: c.url, Token: c.token, SystemID: "s_0123456789ab"})
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %v with %q", c.name, err, c.is, c.says)
			continue
		}
		for _, kind := range []error{gitlab.ErrRefused, gitlab.ErrNotGitLab, gitlab.ErrMoved, gitlab.ErrAuthority} {
			if kind != c.is && errors.Is(err, kind) {
				t.Errorf("%s: %v passes for %v", c.name, err, kind)
			}
		}
		if strings.Contains(err.Error(), token) {
			t.Errorf("%s: the token is in %v", c.name, err)
		}
	}
	for _, q := range server.Asked() {
		if strings.Contains(q.URL, "glrt-") {
			t.Errorf("the token is in the address %s", q.URL)
		}
	}
}

func TestVerifyTrustsWhomItIsTold(t *testing.T) {
	server := gitlabtest.NewTLS(token)
	defer server.Close()
	r := gitlab.Runner{URL: server.URL, Token: token, SystemID: "r_0123456789ab"}
	if err := gitlab.Verify(t.Context(), r); !errors.Is(err, gitlab.ErrAuthority) || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an authority that is not known: %v", err)
	}
	if n := len(server.Asked()); n != 0 {
		t.Errorf("%d questions reached a server that is not trusted", n)
	}
	r.Authorities = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := gitlab.Verify(t.Context(), r); err != nil {
		t.Error(err)
	}
	r.Authorities = []byte("no certificate\n")
	if err := gitlab.Verify(t.Context(), r); !errors.Is(err, gitlab.ErrAuthority) {
		t.Errorf("a file without a certificate: %v", err)
	}
}

func TestVerifyEnds(t *testing.T) {
	server := gitlabtest.New(token)
	defer server.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("ended on request"))
	err := gitlab.Verify(ctx, gitlab.Runner{URL: server.URL, Token: token, SystemID: "r_0123456789ab"})
	if err == nil || !strings.Contains(err.Error(), "ended on request") {
		t.Errorf("got %v", err)
	}
}
