// The witness behind a server that hands requests on by FastCGI, version 1: one request a connection, as Apache asks.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
)

// Types of records.
const (
	endRequest = 3
	parameters = 4
	input      = 5
	output     = 6
)

var handedOn int64

// The variables of a request and its body; an empty record ends either.
func readRequest(from io.Reader) (variables map[string]string, body string, complete bool) {
	content := map[byte][]byte{}
	for {
		header := make([]byte, 8)
		if _, failure := io.ReadFull(from, header); failure != nil {
			return pairsOf(content[parameters]), string(content[input]), false
		}
		kind, length, padding := header[1], int(binary.BigEndian.Uint16(header[4:])), int(header[6])
		record := make([]byte, length+padding)
		if _, failure := io.ReadFull(from, record); failure != nil {
			return pairsOf(content[parameters]), string(content[input]), false
		}
		content[kind] = append(content[kind], record[:length]...)
		if kind == input && length == 0 {
			return pairsOf(content[parameters]), string(content[input]), true
		}
	}
}

func pairsOf(content []byte) map[string]string {
	pairs := map[string]string{}
	length := func() int {
		if content[0] < 128 {
			size := int(content[0])
			content = content[1:]
			return size
		}
		size := int(binary.BigEndian.Uint32(content) & 0x7FFFFFFF)
		content = content[4:]
		return size
	}
	for len(content) > 0 {
		name, value := length(), length()
		pairs[string(content[:name])] = string(content[name : name+value])
		content = content[name+value:]
	}
	return pairs
}

// What RFC 3875 makes of fields: no case, and one variable for a field that came twice.
func fieldsOf(variables map[string]string) [][2]string {
	fields := [][2]string{}
	for name, value := range variables {
		field, is := strings.CutPrefix(name, "HTTP_")
		if is || name == "CONTENT_TYPE" || name == "CONTENT_LENGTH" {
			if !is {
				field = name
			}
			field = strings.ToLower(strings.ReplaceAll(field, "_", "-"))
			fields = append(fields, [2]string{letters(field), letters(value)})
		}
	}
	sort.Slice(fields, func(one, other int) bool { return fields[one][0] < fields[other][0] })
	return fields
}

func answerFastCGI(asking net.Conn) {
	defer asking.Close()
	variables, body, complete := readRequest(asking)
	port, failure := strconv.Atoi(variables["SERVER_PORT"])
	if failure != nil {
		log.Fatalf("no port: %v", variables)
	}
	seen := fmt.Sprintf("%d.1", atomic.AddInt64(&handedOn, 1))
	write(line{
		Port: port, Seen: seen, Method: letters(variables["REQUEST_METHOD"]), Target: letters(variables["REQUEST_URI"]),
		Path: letters(variables["SCRIPT_NAME"]), Version: variables["SERVER_PROTOCOL"], Host: letters(variables["HTTP_HOST"]),
		Headers: fieldsOf(variables), Body: letters(body), Complete: complete, Trailers: [][2]string{},
	})
	answer := record(output, "Status: 200\r\nContent-Type: text/plain\r\nx-seen: "+seen+"\r\n\r\nseen\n")
	answer = append(append(answer, record(output, "")...), record(endRequest, "\x00\x00\x00\x00\x00\x00\x00\x00")...)
	asking.Write(answer)
}

func record(kind byte, content string) []byte {
	const version, request = 1, 1
	return append([]byte{version, kind, 0, request, 0, byte(len(content)), 0, 0}, content...)
}

func serveFastCGI(port string) {
	listener, failure := net.Listen("tcp4", "127.0.0.1:"+port)
	if failure != nil {
		log.Fatal(failure)
	}
	for {
		asking, failure := listener.Accept()
		if failure != nil {
			log.Fatal(failure)
		}
		go answerFastCGI(asking)
	}
}
