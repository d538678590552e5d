package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What is said in a conversation, and how long nothing is said between: together three seconds.
const (
	messages = 30
	pause    = 100 * time.Millisecond
)

// Who has not been answered by then will not be.
const conversationLimit = messages*pause + requestLimit

// greeting is what a server of lines says first, so that nobody takes it for HTTP.
const greeting = "ready\n"

// serveLines greets who connects, and gives every line back.
func serveLines(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			io.WriteString(connection, greeting)
			io.Copy(connection, connection)
		}()
	}
}

// tcpLoad talks to serveLines, and hears it to its end.
func tcpLoad(target string) conversation {
	return func(name string) (outcome, error) {
		connection, err := net.DialTimeout("tcp", target, requestLimit)
		if err != nil {
			return outcome{}, err
		}
		defer connection.Close()
		connection.SetDeadline(time.Now().Add(conversationLimit))
		reader := bufio.NewReader(connection)
		if line, err := reader.ReadString('\n'); err != nil || line != greeting {
			return outcome{}, fmt.Errorf("greeted with %q: %v", line, err)
		}
		for number := range messages {
			said := fmt.Sprintf("%s %d\n", name, number)
			if _, err := io.WriteString(connection, said); err != nil {
				return outcome{}, fmt.Errorf("line %d: %w", number, err)
			}
			if heard, err := reader.ReadString('\n'); err != nil || heard != said {
				return outcome{}, fmt.Errorf("line %d came back as %q: %v", number, heard, err)
			}
			time.Sleep(pause)
		}
		if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
			return outcome{}, err
		}
		if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
			return outcome{}, fmt.Errorf("ended with %q: %v", rest, err)
		}
		return outcome{}, nil
	}
}

// echo is a service with one method, which gives every message of a stream back.
var echo = grpc.ServiceDesc{
	ServiceName: "weft.tests.Echo",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName: "Talk",
		Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				said := new(wrapperspb.StringValue)
				if err := stream.RecvMsg(said); err != nil {
					if errors.Is(err, io.EOF) {
						return nil
					}
					return err
				}
				if err := stream.SendMsg(said); err != nil {
					return err
				}
			}
		},
		ServerStreams: true,
		ClientStreams: true,
	}},
}

// serveGRPC serves echo, and says that it is healthy, as a kubelet asks.
func serveGRPC(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&echo, nil)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server.Serve(listener)
}

// grpcLoad talks to serveGRPC: streams of one connection, as long as that lasts.
func grpcLoad(target string) (conversation, error) {
	client, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		return nil, err
	}
	return func(name string) (outcome, error) {
		ctx, cancel := context.WithTimeout(context.Background(), conversationLimit)
		defer cancel()
		stream, err := client.NewStream(ctx, &echo.Streams[0], "/weft.tests.Echo/Talk")
		if err != nil {
			return outcome{}, err
		}
		header, err := talkOver(stream, name)
		return outcome{carried: header}, err
	}, nil
}

func talkOver(stream grpc.ClientStream, name string) (bool, error) {
	for number := range messages {
		said := wrapperspb.String(fmt.Sprintf("%s %d", name, number))
		if err := stream.SendMsg(said); err != nil {
			// The reason comes with what is received.
			return false, fmt.Errorf("message %d: %w", number, stream.RecvMsg(new(wrapperspb.StringValue)))
		}
		heard := new(wrapperspb.StringValue)
		if err := stream.RecvMsg(heard); err != nil || heard.Value != said.Value {
			return false, fmt.Errorf("message %d came back as %q: %v", number, heard.Value, err)
		}
		time.Sleep(pause)
	}
	if err := stream.CloseSend(); err != nil {
		return false, err
	}
	if err := stream.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("the end: %w", err)
	}
	header, err := stream.Header()
	return len(header.Get(requestName)) > 0, err
}
