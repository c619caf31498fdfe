package look

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/rbd-rescue/rbd-rescue/doctor"
)

const servedTimeout = 5 * time.Second

// Served takes the certificate that a webhook at host:port serves. Nothing is sent to it.
func Served(ctx context.Context, address string) doctor.Served {
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it is looked at, not trusted
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return doctor.Served{Error: fmt.Sprintf("calling %s: %v", address, err)}
	}
	defer func() { _ = conn.Close() }()
	var text []byte
	for _, certificate := range conn.(*tls.Conn).ConnectionState().PeerCertificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return doctor.Served{Certificates: string(text)}
}
