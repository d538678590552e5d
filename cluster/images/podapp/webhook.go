package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"time"
)

// review serves an admission webhook for whom it may concern under this name.
// It denies every object, and prints what its callers must trust.
func review(address, name string) error {
	certificate, err := selfSigned(name)
	if err != nil {
		return err
	}
	trusted := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	fmt.Println(base64.StdEncoding.EncodeToString(trusted))
	server := http.Server{
		Addr:      address,
		Handler:   http.HandlerFunc(deny),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	return server.ListenAndServeTLS("", "")
}

func deny(writer http.ResponseWriter, request *http.Request) {
	var asked struct {
		Request struct {
			UID string `json:"uid"`
		} `json:"request"`
	}
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	type object map[string]any
	json.NewEncoder(writer).Encode(object{
		"apiVersion": "admission.k8s.io/v1",
		"kind":       "AdmissionReview",
		"response": object{
			"uid":     asked.Request.UID,
			"allowed": false,
			"status":  object{"message": "the webhook of a pod was asked"},
		},
	})
}

func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		DNSNames:              []string{name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{encoded}, PrivateKey: key}, err
}
