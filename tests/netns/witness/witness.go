// Writes down every request exactly as Go's HTTP server gives it to a handler, one line of JSON each.
//
// Every letter of a line is one byte (Latin-1). A line is written before the answer leaves, and the answer's header x-seen
// names it. Usage: witness FILE PORT..., where a port behind "fastcgi:" is that of a server which others hand requests on to.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

type line struct {
	Port     int         `json:"port"`
	Seen     string      `json:"seen"`
	Method   string      `json:"method"`
	Target   string      `json:"target"`
	Path     string      `json:"path"`
	Version  string      `json:"version"`
	Host     string      `json:"host"`
	Headers  [][2]string `json:"headers"`
	Body     string      `json:"body"`
	Complete bool        `json:"complete"`
	Trailers [][2]string `json:"trailers"`
}

type connection struct {
	number   int64
	requests int64
}

type key struct{}

var (
	lines       *os.File
	writing     sync.Mutex
	connections int64
)

// One letter for each byte, whatever the bytes are.
func letters(text string) string {
	runes := make([]rune, len(text))
	for at := 0; at < len(text); at++ {
		runes[at] = rune(text[at])
	}
	return string(runes)
}

func pairs(header http.Header) [][2]string {
	listed := [][2]string{}
	for name, values := range header {
		for _, value := range values {
			listed = append(listed, [2]string{letters(name), letters(value)})
		}
	}
	sort.SliceStable(listed, func(one, other int) bool { return listed[one][0] < listed[other][0] })
	return listed
}

func witness(port int) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		body, failure := io.ReadAll(request.Body)
		from := request.Context().Value(key{}).(*connection)
		from.requests++
		seen := fmt.Sprintf("%d.%d", from.number, from.requests)
		write(line{
			Port: port, Seen: seen, Method: letters(request.Method), Target: letters(request.RequestURI),
			Path: letters(request.URL.Path), Version: request.Proto, Host: letters(request.Host),
			Headers: pairs(request.Header), Body: letters(string(body)), Complete: failure == nil,
			Trailers: pairs(request.Trailer),
		})
		response.Header().Set("x-seen", seen)
		io.WriteString(response, "seen\n")
	}
}

func write(seen line) {
	text, failure := json.Marshal(seen)
	if failure != nil {
		log.Fatal(failure)
	}
	bytes := []byte{}
	for _, letter := range string(text) {
		bytes = append(bytes, byte(letter))
	}
	writing.Lock()
	defer writing.Unlock()
	if _, failure := lines.Write(append(bytes, '\n')); failure != nil {
		log.Fatal(failure)
	}
}

func serve(port string) {
	listener, failure := net.Listen("tcp4", ":"+port)
	if failure != nil {
		log.Fatal(failure)
	}
	server := http.Server{
		Handler: witness(listener.Addr().(*net.TCPAddr).Port),
		ConnContext: func(parent context.Context, _ net.Conn) context.Context {
			return context.WithValue(parent, key{}, &connection{number: atomic.AddInt64(&connections, 1)})
		},
	}
	log.Fatal(server.Serve(listener))
}

func main() {
	file, failure := os.OpenFile(os.Args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if failure != nil {
		log.Fatal(failure)
	}
	lines = file
	for _, port := range os.Args[2:] {
		if behind, is := strings.CutPrefix(port, "fastcgi:"); is {
			go serveFastCGI(behind)
		} else {
			go serve(port)
		}
	}
	select {}
}
