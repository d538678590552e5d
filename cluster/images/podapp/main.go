// Command podapp is what the pods of the cluster tier run: a server that says
// who asked, and the clients and tools that a pod without a shell lacks.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"
)

// A request that has no answer by then will not get one.
const requestLimit = 5 * time.Second

const usage = `usage: podapp
  serve ADDRESS [LEDGER] | serve-grpc ADDRESS | serve-lines ADDRESS | review ADDRESS NAME
  visit ADDRESS AWAITED URL
  get URL | post URL | await URL | tally URL COUNT | talk URL ADDRESS
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
	case len(words) == 2 && words[0] == "await":
		return await(words[1])
	case len(words) == 4 && words[0] == "visit":
		return visit(words[1], words[2], words[3])
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

// get prints what is answered, and fails where that is not a success.
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
