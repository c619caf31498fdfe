package kube

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// poll asks until the answer is no error, and gives the last one when it takes longer than a component may.
func poll(ctx context.Context, what string, ask func(context.Context) error) error {
	return pollFor(ctx, componentTimeout, what, ask)
}

func pollFor(ctx context.Context, timeout time.Duration, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begin := time.Now()
	for {
		attempt, cancelAttempt := context.WithTimeout(ctx, 5*time.Second)
		err := ask(attempt)
		cancelAttempt()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting %s for %s: %w", time.Since(begin).Round(time.Second), what, err)
		case <-time.After(pollInterval):
		}
	}
}

// waitFor is poll that gives up at once when the process ends.
func (c *ControlPlane) waitFor(ctx context.Context, p *process.Process, what string, ask func(context.Context) error) error {
	return c.waitUpTo(ctx, componentTimeout, p, what, ask)
}

func (c *ControlPlane) waitUpTo(ctx context.Context, timeout time.Duration, p *process.Process, what string, ask func(context.Context) error) error {
	alive, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.Done():
			cancel(fmt.Errorf("%s ended: %w", p.Name(), p.Err()))
		case <-alive.Done():
		}
	}()
	if err := pollFor(alive, timeout, what, ask); err != nil {
		if cause := context.Cause(alive); cause != nil {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
		return fmt.Errorf("%w; its log is %s", err, p.Log())
	}
	return nil
}

func (c *ControlPlane) waitHealthz(ctx context.Context, p *process.Process, port int) error {
	// The component signs its own certificate.
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	return c.waitFor(ctx, p, p.Name()+" to be healthy", func(ctx context.Context) error {
		return healthy(ctx, insecure, fmt.Sprintf("https://%s:%d/healthz", c.options.IP, port))
	})
}

func healthy(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}
