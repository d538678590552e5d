// Command podapp is what the pods of the cluster tier run: a server that says
// who asked, and the clients and tools that a pod without a shell lacks.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// A request that has no answer by then will not get one.
const requestLimit = 5 * time.Second

const usage = `usage: podapp
  serve ADDRESS [LEDGER] | serve-grpc ADDRESS | serve-lines ADDRESS | review ADDRESS NAME
  get URL | post URL | tally URL COUNT | talk URL ADDRESS
  load http|http-once|grpc|tcp TARGET RATE ADDRESS | watch URL ADDRESS
  resolve NAME | copy | read FILE | grow MEBIBYTES`

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(words []string) error {
	switch {
	case len(words) == 2 && words[0] == "serve":
		return serve(words[1], "")
	case len(words) == 3 && words[0] == "serve":
		return serve(words[1], words[2])
	case len(words) == 2 && words[0] == "serve-grpc":
		return serveGRPC(words[1])
	case len(words) == 2 && words[0] == "serve-lines":
		return serveLines(words[1])
	case len(words) == 5 && words[0] == "load":
		return load(words[1], words[2], words[3], words[4])
	case len(words) == 3 && words[0] == "review":
		return review(words[1], words[2])
	case len(words) == 2 && words[0] == "get":
		return get(http.MethodGet, words[1])
	case len(words) == 2 && words[0] == "post":
		return get(http.MethodPost, words[1])
	case len(words) == 3 && words[0] == "tally":
		return tally(words[1], words[2])
	case len(words) == 3 && words[0] == "talk":
		return talk(words[1], words[2])
	case len(words) == 3 && words[0] == "watch":
		return watch(words[1], words[2])
	case len(words) == 2 && words[0] == "resolve":
		return resolve(words[1])
	case len(words) == 1 && words[0] == "copy":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case len(words) == 2 && words[0] == "read":
		content, err := os.ReadFile(words[1])
		os.Stdout.Write(content)
		return err
	case len(words) == 2 && words[0] == "grow":
		return grow(words[1])
	}
	return errors.New(usage)
}

// requestName is the header in which Weft gives every request that it carries a name.
const requestName = "weft-request-id"

// serve answers who asked, and what Weft calls the request. /ready refuses until somebody posts to /ready, and
// /probes tells how often it was asked. With a ledger it takes its time over a request, and writes down each, and its end.
func serve(address, path string) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	var book *ledger
	if path != "" {
		if book, err = openLedger(path, pod); err != nil {
			return err
		}
	}
	go endAtOnce(book)
	var ready atomic.Bool
	var probes atomic.Int64
	http.HandleFunc("/ready", func(writer http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodPost {
			ready.Store(true)
			return
		}
		probes.Add(1)
		if !ready.Load() {
			http.Error(writer, "not yet", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/probes", func(writer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(writer, probes.Load())
	})
	http.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		client, _, _ := net.SplitHostPort(request.RemoteAddr)
		if book != nil {
			if err := book.write(request.URL.Path); err != nil {
				log.Fatal(err)
			}
			time.Sleep(work)
		}
		fmt.Printf("%s %s from %s\n", request.Method, request.URL.Path, client)
		answer := map[string]string{"pod": pod, "client": client}
		if name := request.Header.Get(requestName); name != "" {
			answer["request"] = name
		}
		json.NewEncoder(writer).Encode(answer)
	})
	return http.ListenAndServe(address, nil)
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

func get(method, url string) error {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: requestLimit}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

func resolve(name string) error {
	addresses, err := net.LookupHost(name)
	for _, address := range addresses {
		fmt.Println(address)
	}
	return err
}

// grow takes this much memory, unless somebody ends it before.
func grow(mebibytes string) error {
	wanted, err := strconv.Atoi(mebibytes)
	if err != nil {
		return err
	}
	var taken [][]byte
	for len(taken) < wanted {
		piece := make([]byte, 1<<20)
		for position := range piece {
			piece[position] = 1
		}
		taken = append(taken, piece)
	}
	fmt.Println(len(taken), "MiB")
	runtime.KeepAlive(taken)
	return nil
}
