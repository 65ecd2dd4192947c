package helper

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-plugin"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// handshake does the helper's side of go-plugin's handshake: it listens where the host wants it, makes a certificate if the host has
// sent its own, and returns the line that tells the host. Whatever versions the host offers, the line says ours, as go-plugin's own
// server does: the host then refuses in its own words.
func handshake() (lis net.Listener, config *tls.Config, line string, err error) {
	der := ""
	if hostPEM := os.Getenv(wire.EnvClientCert); hostPEM != "" {
		var cert []byte
		if config, cert, err = mutualTLS([]byte(hostPEM)); err != nil {
			return nil, nil, "", err
		}
		der = base64.RawStdEncoding.EncodeToString(cert)
	}
	if lis, err = listen(); err != nil {
		return nil, nil, "", err
	}
	line = fmt.Sprintf("%d|%d|%s|%s|grpc|%s",
		plugin.CoreProtocolVersion, wire.ProtocolVersion, lis.Addr().Network(), lis.Addr().String(), der)
	return lis, config, line, nil
}

// checkVersions wants our version among those the host speaks. A host that does not say is taken at its answer.
func checkVersions(offered string) error {
	if offered == "" || slices.Contains(strings.Split(offered, ","), strconv.Itoa(wire.ProtocolVersion)) {
		return nil
	}
	return shared.ErrIncompatible.Errorf("the host speaks version %s of the protocol, this helper version %d: build it against the host's khelp",
		offered, wire.ProtocolVersion)
}

// mutualTLS returns a configuration that lets in the holder of the host's certificate and nobody else, and our own certificate.
func mutualTLS(hostPEM []byte) (config *tls.Config, der []byte, err error) {
	block, _ := pem.Decode(hostPEM)
	if block == nil {
		return nil, nil, shared.ErrInvalid.Errorf("%s holds no PEM certificate", wire.EnvClientCert)
	}
	host, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, shared.ErrInvalid.Errorf("%s: %w", wire.EnvClientCert, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if der, err = selfSigned(key); err != nil {
		return nil, nil, err
	}
	config = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		// Any certificate, and then this very one: there is no authority between the two of us.
		ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || !state.PeerCertificates[0].Equal(host) {
				return errors.New("the peer is not the host that started this helper")
			}
			return nil
		},
		SessionTicketsDisabled: true,
		MinVersion:             tls.VersionTLS13,
	}
	return config, der, nil
}

// selfSigned makes the certificate that go-plugin clients expect: their own authority, for localhost.
func selfSigned(key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "localhost", Organization: []string{"khelp"}},
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().AddDate(30, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}
