package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// httpLoad asks over connections that it keeps or over a new one for each request. It is written by hand because Go's
// own client sends a request again where it thinks that nobody will know.
type httpLoad struct {
	target string
	keep   bool

	lock sync.Mutex
	idle []*link
}

// link is a connection to a server.
type link struct {
	net.Conn
	reader *bufio.Reader
}

func (load *httpLoad) ask(name string) (outcome, error) {
	connection, err := load.connect()
	if err != nil {
		return outcome{}, err
	}
	came, again, err := connection.ask(load.target, name)
	if err != nil || !again || !load.keep {
		connection.Close()
		return came, err
	}
	load.lock.Lock()
	defer load.lock.Unlock()
	load.idle = append(load.idle, connection)
	return came, nil
}

// connect returns the connection that has rested longest and is still open, or a new one.
func (load *httpLoad) connect() (*link, error) {
	load.lock.Lock()
	defer load.lock.Unlock()
	for len(load.idle) > 0 {
		connection := load.idle[0]
		load.idle = load.idle[1:]
		if connection.rests() {
			return connection, nil
		}
		connection.Close()
	}
	where, err := url.Parse(load.target)
	if err != nil {
		return nil, err
	}
	connection, err := net.DialTimeout("tcp", where.Host, requestLimit)
	if err != nil {
		return nil, err
	}
	return &link{connection, bufio.NewReader(connection)}, nil
}

// rests says whether nothing has come, an end neither, since the last answer.
func (connection *link) rests() bool {
	raw, err := connection.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	var nothing bool
	err = raw.Control(func(descriptor uintptr) {
		_, _, err := syscall.Recvfrom(int(descriptor), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		nothing = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && nothing
}

// ask says who answered, and whether the connection may be used again.
func (connection *link) ask(target, name string) (outcome, bool, error) {
	method, _, _ := strings.Cut(name, "-")
	request, err := http.NewRequest(strings.ToUpper(method), target+"/"+name, nil)
	if err != nil {
		return outcome{}, false, err
	}
	connection.SetDeadline(time.Now().Add(requestLimit))
	if err := request.Write(connection); err != nil {
		return outcome{}, false, fmt.Errorf("not sent: %w", err)
	}
	answer, err := http.ReadResponse(connection.reader, request)
	if err != nil {
		return outcome{}, false, fmt.Errorf("no answer: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return outcome{}, false, fmt.Errorf("%s %s", answer.Status, answer.Header.Get("weft-reason"))
	}
	var told struct{ Pod, Request string }
	err = json.NewDecoder(answer.Body).Decode(&told)
	return outcome{told.Pod, told.Request != ""}, !answer.Close, err
}
