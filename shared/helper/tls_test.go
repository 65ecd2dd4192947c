package helper

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/khelp/khelp/shared"
)

func testCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := selfSigned(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// strangers are peers that are not the host: without TLS, without a certificate, and with one of their own.
func strangers(own *tls.Config) map[string]credentials.TransportCredentials {
	return map[string]credentials.TransportCredentials{
		"a peer without TLS":           insecure.NewCredentials(),
		"a peer without a certificate": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
		"a peer with another's certificate": credentials.NewTLS(&tls.Config{
			InsecureSkipVerify: true, Certificates: own.Certificates,
		}),
	}
}

func TestBadHostCertificateIsAnError(t *testing.T) {
	for _, text := range []string{"garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, _, err := mutualTLS([]byte(text)); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", text, err)
		}
	}
}

func TestVersionsAreCompared(t *testing.T) {
	for offered, want := range map[string]error{"": nil, "1": nil, "3,1": nil, "2": shared.ErrIncompatible, "11": shared.ErrIncompatible} {
		if err := checkVersions(offered); !errors.Is(err, want) {
			t.Errorf("offered %q: %v, want %v", offered, err, want)
		}
	}
}
