package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"
)

const day = 24 * time.Hour

var today = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// ca makes a CA's certificate in PEM; days count from today.
func ca(t testing.TB, name string, fromDay, toDay int) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: today.Add(time.Duration(fromDay) * day), NotAfter: today.Add(time.Duration(toDay) * day),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func names(bundle []byte) []string {
	certificates, _ := decodeBundle(bundle)
	var names []string
	for _, c := range certificates {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

func TestDecideBundle(t *testing.T) {
	t.Parallel()
	var (
		previous = ca(t, "previous", -240, 125)
		current  = ca(t, "current", -1, 364)
		expired  = ca(t, "expired", -10, -1)
		newer    = ca(t, "newer", 0, 365)
		settled  = ca(t, "settled", -100, 265)
	)
	var many [][]byte
	for range 8 {
		many = append(many, ca(t, "many", -1, 364))
	}
	for name, test := range map[string]struct {
		current, existing []byte
		want              []string
		unchanged         bool
		lookAgain         time.Duration
	}{
		"writes the current CA into an empty caBundle":             {current: current, want: []string{"current"}},
		"replaces what is not a certificate":                       {current: current, existing: []byte("Cg=="), want: []string{"current"}},
		"drops text between certificates":                          {current: current, existing: join(current, []byte("text")), want: []string{"current"}},
		"leaves a caBundle that is right":                          {current: current, existing: current, want: []string{"current"}, unchanged: true},
		"keeps the previous CA while its certificates may be used": {current: current, existing: previous, want: []string{"current", "previous"}, lookAgain: 6 * day},
		"leaves the two, whatever their order":                     {current: current, existing: join(previous, current), want: []string{"previous", "current"}, unchanged: true, lookAgain: 6 * day},
		"drops the previous CA once its certificates are gone":     {current: settled, existing: join(settled, previous), want: []string{"settled"}},
		"drops a CA that has expired":                              {current: current, existing: join(current, expired), want: []string{"current"}},
		"keeps a newer CA, of which this replica's Secret does not know yet": {
			current: current, existing: join(newer, current), want: []string{"newer", "current"}, unchanged: true, lookAgain: 365 * day,
		},
		"adds its own CA behind a newer one": {current: current, existing: newer, want: []string{"newer", "current"}, lookAgain: 365 * day},
		"keeps a certificate once":           {current: current, existing: join(current, current), want: []string{"current"}},
		"never grows beyond five, and always has the current CA": {
			current: current, existing: join(many...), want: []string{"current", "many", "many", "many", "many"}, lookAgain: 364 * day,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, lookAgain, err := decideBundle(today, test.current, test.existing, 7*day)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(names(got), test.want) {
				t.Errorf("bundle %v, want %v", names(got), test.want)
			}
			if lookAgain != test.lookAgain {
				t.Errorf("look again after %s, want %s", lookAgain, test.lookAgain)
			}
			if bytes.Equal(got, test.existing) != test.unchanged {
				t.Errorf("unchanged %v, want %v", !test.unchanged, test.unchanged)
			}
			again, _, err := decideBundle(today, test.current, got, 7*day)
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("a second look changes the caBundle again, to %v, error %v", names(again), err)
			}
		})
	}
}

func TestDecideBundleRefusesACurrentCAThatIsNone(t *testing.T) {
	t.Parallel()
	for name, current := range map[string][]byte{
		"nothing": nil,
		"text":    []byte("text"),
		"a key":   pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")}),
		"noise":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
	} {
		if bundle, _, err := decideBundle(today, current, ca(t, "existing", -1, 1), 7*day); err == nil {
			t.Errorf("%s: no error, but %v", name, names(bundle))
		}
	}
}

// TestReplicasSettle: replicas that see the Secret's rotation at different times do not undo each other's writes.
func TestReplicasSettle(t *testing.T) {
	t.Parallel()
	old, fresh := ca(t, "old", -240, 125), ca(t, "fresh", 0, 365)
	bundle := old
	for _, seen := range [][]byte{fresh, old, fresh, old} {
		var err error
		if bundle, _, err = decideBundle(today, seen, bundle, 7*day); err != nil {
			t.Fatal(err)
		}
		if got := names(bundle); !slices.Equal(got, []string{"fresh", "old"}) {
			t.Fatalf("bundle %v, want both", got)
		}
	}
}
