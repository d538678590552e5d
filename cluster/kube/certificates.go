package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Longer than any cluster of this kind lives.
const certificateLife = 365 * 24 * time.Hour

// credentials is a key with its certificate, both in PEM.
type credentials struct {
	certificate, key []byte
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte
}

// certificates writes everything that the programs of a cluster know each other
// by into a folder: weft-kube certificates FOLDER API-ADDRESS SERVICE-ADDRESS
// NODE=ADDRESS...
func certificates(arguments []string) error {
	if len(arguments) < 3 {
		return fmt.Errorf("usage: certificates FOLDER API-ADDRESS SERVICE-ADDRESS NODE=ADDRESS...")
	}
	folder, api, service := arguments[0], arguments[1], arguments[2]
	host, _, err := net.SplitHostPort(api)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	cluster, err := newAuthority("weft-cluster")
	if err != nil {
		return err
	}
	front, err := newAuthority("weft-cluster-front-proxy")
	if err != nil {
		return err
	}
	files := map[string][]byte{"ca.crt": cluster.pem, "front-proxy-ca.crt": front.pem}
	if files["ca.key"], err = encodeKey(cluster.key); err != nil {
		return err
	}
	if err := addServiceAccountKey(files); err != nil {
		return err
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "127.0.0.1", host, service}
	server, err := cluster.sign(pkix.Name{CommonName: "kube-apiserver"}, names...)
	if err != nil {
		return err
	}
	add(files, "apiserver", server)
	proxy, err := front.sign(pkix.Name{CommonName: "front-proxy-client"})
	if err != nil {
		return err
	}
	add(files, "front-proxy-client", proxy)
	for name, subject := range clients(arguments[3:]) {
		client, err := cluster.sign(subject.name, subject.alternatives...)
		if err != nil {
			return err
		}
		add(files, name, client)
		if files[name+".kubeconfig"], err = kubeconfig(api, cluster, client); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// subject is who a certificate speaks for, and as what others may reach it.
type subject struct {
	name         pkix.Name
	alternatives []string
}

// clients are those who come to the API server; the nodes' kubelets are servers
// too, and the API server comes to them as apiserver-kubelet-client.
func clients(nodes []string) map[string]subject {
	found := map[string]subject{
		"admin":                    {name: pkix.Name{Organization: []string{"system:masters"}, CommonName: "admin"}},
		"apiserver-kubelet-client": {name: pkix.Name{Organization: []string{"system:masters"}, CommonName: "apiserver-kubelet-client"}},
		"controller-manager":       {name: pkix.Name{CommonName: "system:kube-controller-manager"}},
		"scheduler":                {name: pkix.Name{CommonName: "system:kube-scheduler"}},
		"proxy":                    {name: pkix.Name{CommonName: "system:kube-proxy"}},
	}
	for _, node := range nodes {
		name, address, _ := strings.Cut(node, "=")
		found[name] = subject{
			name:         pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:" + name},
			alternatives: []string{name, address},
		}
	}
	return found
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(pkix.Name{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(encoded)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, key, encode("CERTIFICATE", encoded)}, nil
}

func (signer *authority) sign(name pkix.Name, alternatives ...string) (credentials, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return credentials{}, err
	}
	template, err := newTemplate(name)
	if err != nil {
		return credentials{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, alternative := range alternatives {
		if address := net.ParseIP(alternative); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, alternative)
		}
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, signer.certificate, key.Public(), signer.key)
	if err != nil {
		return credentials{}, err
	}
	private, err := encodeKey(key)
	return credentials{encode("CERTIFICATE", encoded), private}, err
}

func newTemplate(name pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	// An hour back, for clocks that are set while a cluster runs.
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: name, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife)}, nil
}

// addServiceAccountKey makes what the tokens of service accounts are signed with.
func addServiceAccountKey(files map[string][]byte) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	files["service-account.pub"] = encode("PUBLIC KEY", public)
	files["service-account.key"], err = encodeKey(key)
	return err
}

// kubeconfig is self-contained, so that it can be used where it is copied to.
// JSON is YAML, and writes bytes as base64 as the format wants them.
func kubeconfig(api string, cluster *authority, client credentials) ([]byte, error) {
	type object map[string]any
	named := func(kind string, content object) []object {
		return []object{{"name": "weft", kind: content}}
	}
	return json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "weft",
		"clusters":        named("cluster", object{"server": "https://" + api, "certificate-authority-data": cluster.pem}),
		"users":           named("user", object{"client-certificate-data": client.certificate, "client-key-data": client.key}),
		"contexts":        named("context", object{"cluster": "weft", "user": "weft"}),
	}, "", "  ")
}

func add(files map[string][]byte, name string, made credentials) {
	files[name+".crt"], files[name+".key"] = made.certificate, made.key
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	return encode("PRIVATE KEY", encoded), err
}

func encode(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}
