package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// tally asks this often for what Weft must carry, and tells which pod gave how many answers. It posts,
// because a lost request of another method would be sent again silently.
func tally(url, count string) error {
	wanted, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: requestLimit}
	answers := map[string]int{}
	for range wanted {
		response, err := client.Post(url, "text/plain", nil)
		if err != nil {
			return err
		}
		var answer struct{ Pod, Request string }
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", response.Status, err)
		}
		if answer.Request == "" {
			return fmt.Errorf("Weft did not carry what %s answered", answer.Pod)
		}
		answers[answer.Pod]++
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

// How often a talker asks: often enough that a cut of its connection is noticed at once.
const talkInterval = 50 * time.Millisecond

// talk tells at the address how often it was answered. Who asks there first
// makes it begin: to ask again and again over one connection, and to end with it.
func talk(url, address string) error {
	var answers atomic.Int64
	begin := make(chan struct{})
	var begun sync.Once
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go http.Serve(listener, http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		begun.Do(func() { close(begin) })
		fmt.Fprintln(writer, answers.Load())
	}))
	<-begin
	var dialled atomic.Bool
	client := http.Client{Timeout: requestLimit, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if dialled.Swap(true) {
				return nil, errors.New("the connection has ended")
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	for {
		if err := ask(client, url); err != nil {
			return err
		}
		answers.Add(1)
		time.Sleep(talkInterval)
	}
}

// await asks until it is answered with a success, and prints that. A pod begins before Weft has captured it.
func await(url string) error {
	for get(http.MethodGet, url) != nil {
		time.Sleep(talkInterval)
	}
	return nil
}

// visit asks under its own name at both URLs, at the first one until it is answered, and then serves.
func visit(address, awaited, url string) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	if err := await(awaited + "/" + pod); err != nil {
		return err
	}
	if err := get(http.MethodGet, url+"/"+pod); err != nil {
		fmt.Println(err)
	}
	return serve(address, "")
}

func ask(client http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
