// Obtains one or many certificates with acmez: see ../libraries.py.
//
// The CA accepts every challenge, so none is published.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

type solver struct{}

func (solver) Present(context.Context, acme.Challenge) error { return nil }
func (solver) CleanUp(context.Context, acme.Challenge) error { return nil }

// The stored data of an account.
type stored struct {
	Account acme.Account
	Key     []byte
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "acmez:", err)
		os.Exit(1)
	}
}

func main() {
	directory, caFile, file, what, rest := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]
	pem, err := os.ReadFile(caFile)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	// The default of net/http, which uses HTTP/2 if the server supports it.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	client := &acmez.Client{
		Client: &acme.Client{
			Directory:  directory,
			HTTPClient: &http.Client{Transport: transport},
		},
		ChallengeSolvers: map[string]acmez.Solver{acme.ChallengeTypeHTTP01: solver{}},
	}
	account := account(client, file)
	if what == "issue" {
		check(issue(client, account, rest))
		return
	}
	count, err := strconv.Atoi(rest[0])
	check(err)
	results := make(chan error, count)
	for i := range count {
		one := func() {
			results <- issue(client, account, []string{fmt.Sprintf("%s%d.test", rest[2], i)})
		}
		if rest[1] == "at-once" {
			go one()
		} else {
			one()
		}
	}
	for range count {
		check(<-results)
	}
}

func account(client *acmez.Client, file string) acme.Account {
	if data, err := os.ReadFile(file); err == nil {
		var kept stored
		check(json.Unmarshal(data, &kept))
		key, err := x509.ParseECPrivateKey(kept.Key)
		check(err)
		kept.Account.PrivateKey = key
		return kept.Account
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	made, err := client.NewAccount(context.Background(), acme.Account{
		Contact:              []string{"mailto:bench@example.org"},
		TermsOfServiceAgreed: true,
		PrivateKey:           key,
	})
	check(err)
	if file != "-" {
		der, err := x509.MarshalECPrivateKey(key)
		check(err)
		data, err := json.Marshal(stored{made, der})
		check(err)
		check(os.WriteFile(file, data, 0o600))
	}
	return made
}

func issue(client *acmez.Client, account acme.Account, names []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	certificates, err := client.ObtainCertificateForSANs(context.Background(), account, key, names)
	if err == nil && len(certificates) == 0 {
		err = fmt.Errorf("no certificate")
	}
	return err
}
