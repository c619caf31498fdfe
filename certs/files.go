package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	ctrl "sigs.k8s.io/controller-runtime"
)

// readEvery is how often the files are read. A kubelet itself takes up to a minute to renew a mounted Secret.
const readEvery = 10 * time.Second

// Files has the serving certificate from files that somebody else renews: tls.crt and tls.key, as of a Secret that is mounted.
// What is wrong with them ends no process, since the next renewal may mend it: the certificate before is served on, and where
// there is none that can work, the replica is not ready and says why.
type Files struct {
	dir    string
	hosts  []string
	every  time.Duration
	expiry prometheus.Gauge
	log    logr.Logger

	mu      sync.RWMutex
	serving *tls.Certificate // the last pair that fits
	problem error            // of the last read
}

// AddFiles makes the manager serve from the files in dir, on every replica. The API server calls by at least one of hosts, names
// or addresses, and the certificate has to be for one of them. The readiness check "certificate" is ready once there is one that
// can work.
func AddFiles(mgr ctrl.Manager, dir string, hosts []string) (*Files, error) {
	f := newFiles(dir, hosts, mgr.GetLogger().WithName("certs"))
	expiry.DeleteLabelValues("ca") // its CA is not known here, and none is not one that has expired
	if err := mgr.Add(f); err != nil {
		return nil, fmt.Errorf("adding the files of the serving certificate: %w", err)
	}
	if err := mgr.AddReadyzCheck("certificate", f.Ready); err != nil {
		return nil, fmt.Errorf("adding a readiness check: %w", err)
	}
	return f, nil
}

func newFiles(dir string, hosts []string, log logr.Logger) *Files {
	return &Files{dir: dir, hosts: hosts, every: readEvery, expiry: servingExpiry, log: log, problem: errors.New("not read yet")}
}

// Start reads the files again and again until ctx is done.
func (f *Files) Start(ctx context.Context) error {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		f.read()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// NeedLeaderElection is false: every replica serves.
func (f *Files) NeedLeaderElection() bool { return false }

// GetCertificate gives the serving certificate to a TLS server; an error while there is none yet.
func (f *Files) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.serving == nil {
		return nil, f.noCertificate()
	}
	return f.serving, nil
}

// Ready is a readiness check: there is a certificate that can work.
func (f *Files) Ready(*http.Request) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.serving == nil {
		return f.noCertificate()
	}
	if err := f.works(f.serving); err != nil {
		return fmt.Errorf("serving from %s: %w", f.dir, err)
	}
	return nil
}

func (f *Files) noCertificate() error {
	return fmt.Errorf("there is no serving certificate yet in %s: %w", f.dir, f.problem)
}

// read takes the files over if they fit, and tells what changed.
func (f *Files) read() {
	pair, problem := tls.LoadX509KeyPair(filepath.Join(f.dir, "tls.crt"), filepath.Join(f.dir, "tls.key"))
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case problem != nil:
		if f.problem == nil || f.problem.Error() != problem.Error() {
			f.log.Error(problem, "Reading the serving certificate", "folder", f.dir)
		}
	case f.serving == nil || !bytes.Equal(f.serving.Certificate[0], pair.Certificate[0]):
		f.log.Info("Serving a new certificate", "folder", f.dir, "expires", pair.Leaf.NotAfter, "names", pair.Leaf.DNSNames)
		if err := f.works(&pair); err != nil {
			f.log.Error(err, "Serving a certificate that the API server can't trust", "folder", f.dir)
		}
		f.serving = &pair
		setExpiry(f.expiry, pair.Leaf.NotAfter)
	}
	f.problem = problem
}

// works says why a certificate can't convince the API server; who has signed it is not known here.
func (f *Files) works(pair *tls.Certificate) error {
	leaf, now := pair.Leaf, time.Now()
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate expired at %s: renew it", leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is valid from %s on only", leaf.NotBefore.Format(time.RFC3339))
	case !slices.ContainsFunc(f.hosts, func(host string) bool { return leaf.VerifyHostname(host) == nil }):
		return fmt.Errorf("the certificate is not for %s: renew it with that name", strings.Join(f.hosts, " or "))
	}
	return nil
}
