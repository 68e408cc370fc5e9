// Writes a key for external account bindings into step-ca's database, and prints its id and the HMAC key.
//
//	eab-key DATABASE
//
// The open-source edition of step-ca checks bindings, but its admin API creates no keys ("only available in
// Certificate Manager"). The function behind that API needs a provisioner with an id, which provisioners in
// ca.json do not have. So this program writes the same records as that function. step-ca must not be running.
package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/smallstep/nosql"
)

var table = []byte("acme_external_account_keys")

// The fields of dbExternalAccountKey in step-ca's acme/db/nosql.
type key struct {
	ID            string    `json:"id"`
	ProvisionerID string    `json:"provisionerID"`
	Reference     string    `json:"reference"`
	HmacKey       []byte    `json:"key"`
	CreatedAt     time.Time `json:"createdAt"`
	BoundAt       time.Time `json:"boundAt"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: eab-key DATABASE")
	}
	made := key{ID: rand.Text(), HmacKey: make([]byte, 32), CreatedAt: time.Now().UTC()}
	rand.Read(made.HmacKey)
	if err := store(os.Args[1], made); err != nil {
		log.Fatal(err)
	}
	fmt.Println(made.ID, base64.RawURLEncoding.EncodeToString(made.HmacKey))
}

func store(database string, made key) error {
	record, err := json.Marshal(made)
	if err != nil {
		return err
	}
	db, err := nosql.New("badgerv2", database)
	if err != nil {
		return err
	}
	if err := db.CreateTable(table); err != nil {
		return err
	}
	if err := db.Set(table, []byte(made.ID), record); err != nil {
		return err
	}
	return db.Close()
}
