package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// requestName is the header in which Weft gives every request that it carries a name.
const requestName = "weft-request-id"

// server answers who asked, and what Weft calls the request. With a ledger it takes its time over a request, and writes
// down each, and its end.
type server struct {
	pod      string
	book     *ledger
	ready    atomic.Bool
	probes   atomic.Int64
	released chan struct{}
	release  sync.Once
}

// serve answers everywhere, and at some paths does more: /ready refuses until somebody posts to it, and again after a
// post to /unready; /probes tells how often it was asked; /hold answers when somebody has posted to /release.
func serve(address, path string) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	server := &server{pod: pod, released: make(chan struct{})}
	if path != "" {
		if server.book, err = openLedger(path, pod); err != nil {
			return err
		}
	}
	go endAtOnce(server.book)
	http.HandleFunc("/ready", server.probe)
	http.HandleFunc("/unready", func(http.ResponseWriter, *http.Request) { server.ready.Store(false) })
	http.HandleFunc("/probes", func(writer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(writer, server.probes.Load())
	})
	http.HandleFunc("/hold", func(writer http.ResponseWriter, request *http.Request) {
		fmt.Println("holding")
		<-server.released
		server.answer(writer, request)
	})
	http.HandleFunc("/release", func(http.ResponseWriter, *http.Request) {
		server.release.Do(func() { close(server.released) })
	})
	http.HandleFunc("/", server.answer)
	return http.ListenAndServe(address, nil)
}

func (server *server) probe(writer http.ResponseWriter, request *http.Request) {
	if request.Method == http.MethodPost {
		server.ready.Store(true)
		return
	}
	server.probes.Add(1)
	if !server.ready.Load() {
		http.Error(writer, "not yet", http.StatusServiceUnavailable)
	}
}

func (server *server) answer(writer http.ResponseWriter, request *http.Request) {
	client, _, _ := net.SplitHostPort(request.RemoteAddr)
	if server.book != nil {
		if err := server.book.write(request.URL.Path); err != nil {
			log.Fatal(err)
		}
		time.Sleep(work)
	}
	fmt.Printf("%s %s from %s\n", request.Method, request.URL.Path, client)
	answer := map[string]string{"pod": server.pod, "client": client}
	if name := request.Header.Get(requestName); name != "" {
		answer["request"] = name
	}
	json.NewEncoder(writer).Encode(answer)
}

// endAtOnce ends the process when it is asked to, whatever it is doing.
func endAtOnce(book *ledger) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	<-asked
	if book != nil {
		book.write("")
	}
	os.Exit(0)
}
