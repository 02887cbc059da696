// Package gitlab asks GitLab's API the one thing that setup wants to know: whether a runner's token is good.
//
// It asks as GitLab Runner does, with the same proxies, authorities and address, so that what works here works there.
package gitlab

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Runner is a runner as GitLab sees it.
type Runner struct {
	// URL is the address of GitLab, Token the runner's own, and SystemID names this host among those that have the runner.
	// https://docs.gitlab.com/runner/fleet_scaling/#generation-of-system_id-identifiers
	URL, Token, SystemID string
	// Authorities are certificates in PEM that are trusted beside those of the system. Certificate is the client's own; nil for none.
	Authorities []byte
	Certificate *tls.Certificate
}

// What is wrong, for whoever has to say what to do about it. Everything else is trouble on the way, or at GitLab.
var (
	// ErrRefused means that GitLab doesn't take the token.
	ErrRefused = errors.New("GitLab refuses the runner's token")
	// ErrNotGitLab means that something else than GitLab's API answers.
	ErrNotGitLab = errors.New("no GitLab answers")
	// ErrMoved means that the address leads to another, which GitLab Runner doesn't go to.
	ErrMoved = errors.New("leads to another address")
	// ErrAuthority means that nobody who is trusted vouches for the server.
	ErrAuthority = errors.New("the server's certificate is not trusted")
)

// answerLimit is how long GitLab may take to answer, maxAnswer how much of that is read, and maxSaid how much of it is shown, in bytes.
const (
	answerLimit = 30 * time.Second
	maxAnswer   = 64 << 10
	maxSaid     = 200
)

// Verify asks GitLab whether it knows the runner. No error has the token in it. https://docs.gitlab.com/api/runners/#verify-authentication-for-a-registered-runner
func Verify(ctx context.Context, r Runner) error {
	client, err := r.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, fmt.Errorf("no answer within %v", answerLimit))
	defer cancel()
	form := url.Values{"token": {r.Token}, "system_id": {r.SystemID}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint(r.URL), strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return r.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	return r.judge(resp)
}

// Proxy is the proxy that GitLab is asked through, without its password; empty for none.
func Proxy(address string) string {
	req, err := http.NewRequest(http.MethodPost, endpoint(address), nil)
	if err != nil {
		return ""
	}
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Redacted()
}

// endpoint is where runners are verified. GitLab Runner cuts the same off an address.
func endpoint(address string) string {
	return strings.TrimSuffix(strings.TrimRight(address, "/"), "/ci") + "/api/v4/runners/verify"
}

func (r Runner) client() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(r.Authorities) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(r.Authorities) {
			return nil, fmt.Errorf("%w: there is no certificate in PEM in the authority's file", ErrAuthority)
		}
		config.RootCAs = pool
	}
	if r.Certificate != nil {
		config.Certificates = []tls.Certificate{*r.Certificate}
	}
	return &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config},
		// A POST that is led elsewhere becomes a GET, and the token would go to a stranger.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// unreachable says why there was no answer.
func (r Runner) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err // without the endpoint; the address is said already
	}
	if invalid := (*tls.CertificateVerificationError)(nil); errors.As(err, &invalid) {
		return fmt.Errorf("%s: %w: %w", r.URL, ErrAuthority, invalid.Err)
	}
	return fmt.Errorf("%s can't be reached: %w", r.URL, err)
}

// judge says what an answer means.
func (r Runner) judge(resp *http.Response) error {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	isJSON := err == nil && kind == "application/json"
	switch code := resp.StatusCode; {
	case code == http.StatusNoContent, code/100 == 2 && isJSON:
		return nil
	case code == http.StatusForbidden && isJSON, code == http.StatusUnprocessableEntity && isJSON: // the latter where its project or group is gone
		return fmt.Errorf("%s: %w (%s)", r.URL, ErrRefused, r.said(resp))
	case code/100 == 3:
		to, err := resp.Location()
		if err != nil {
			return fmt.Errorf("%s: %w (%s)", r.URL, ErrNotGitLab, resp.Status)
		}
		return fmt.Errorf("%s: %w, %s://%s", r.URL, ErrMoved, to.Scheme, to.Host)
	case code == http.StatusTooManyRequests, code/100 == 5:
		return fmt.Errorf("%s: GitLab can't answer now (%s)", r.URL, resp.Status)
	case code/100 == 4 && isJSON && code != http.StatusNotFound && code != http.StatusMethodNotAllowed:
		return fmt.Errorf("%s: GitLab does not understand the question (%s)", r.URL, r.said(resp))
	default:
		return fmt.Errorf("%s: %w (%s, %s)", r.URL, ErrNotGitLab, resp.Status, kind)
	}
}

// said is GitLab's own word for what is wrong: that of its JSON, or else the status.
func (r Runner) said(resp *http.Response) string {
	var answer struct {
		Message string `json:"message"`
		Error   string `json:"error"`
	}
	err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer)
	text := cmp.Or(answer.Message, answer.Error)
	if err != nil || text == "" {
		return resp.Status
	}
	if r.Token != "" { // whoever answers
		text = strings.ReplaceAll(text, r.Token, "[MASKED]")
	}
	return text[:min(len(text), maxSaid)]
}
