package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Conversations at once. More would mean that answers take seconds.
const loadLimit = 500

// failure is a conversation that went wrong, and when it took place, in nanoseconds of the clock.
type failure struct {
	Name  string `json:"name"`
	Start int64  `json:"start"`
	End   int64  `json:"end"`
	Error string `json:"error"`
}

// report is what became of the conversations so far.
type report struct {
	Done     int            `json:"done"`
	Carried  int            `json:"carried"`
	Pods     map[string]int `json:"pods"`
	Failures []failure      `json:"failures"`
}

// outcome says of a conversation which pod answered, if that is known, and whether Weft carried it.
type outcome struct {
	pod     string
	carried bool
}

// conversation is one of a load; its name is unique.
type conversation func(name string) (outcome, error)

// load holds so many conversations a second, each once and never again, and tells how they went under address. It begins
// when it is asked for the first time: what began before its pod was captured would go its own way for ever. A
// conversation's name says what it does: an idempotent request is called get-N, another post-N.
func load(kind, target, rate, address string) error {
	each, err := strconv.Atoi(rate)
	if err != nil {
		return err
	}
	var talk conversation
	switch kind {
	case "http":
		talk = (&httpLoad{target: target, keep: true}).ask
	case "http-once":
		talk = (&httpLoad{target: target}).ask
	case "grpc":
		if talk, err = grpcLoad(target); err != nil {
			return err
		}
	case "tcp":
		talk = tcpLoad(target)
	default:
		return fmt.Errorf("there is no load %s", kind)
	}
	told := &report{Pods: map[string]int{}, Failures: []failure{}}
	var lock sync.Mutex
	begin := sync.OnceFunc(func() { go hold(talk, each, told, &lock) })
	http.HandleFunc("/", func(writer http.ResponseWriter, _ *http.Request) {
		begin()
		lock.Lock()
		defer lock.Unlock()
		json.NewEncoder(writer).Encode(told)
	})
	return http.ListenAndServe(address, nil)
}

func hold(talk conversation, rate int, told *report, lock *sync.Mutex) {
	free := make(chan struct{}, loadLimit)
	for number := range ticks(rate) {
		free <- struct{}{}
		go func() {
			defer func() { <-free }()
			name := kindOf(number) + "-" + strconv.Itoa(number)
			start := time.Now().UnixNano()
			came, err := talk(name)
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				told.Failures = append(told.Failures, failure{name, start, time.Now().UnixNano(), err.Error()})
				return
			}
			told.Done++
			told.Pods[came.pod]++
			if came.carried {
				told.Carried++
			}
		}()
	}
}

func kindOf(number int) string {
	if number%2 == 0 {
		return "get"
	}
	return "post"
}

// ticks gives numbers, so many a second, for ever. One that is late is not left out.
func ticks(rate int) <-chan int {
	numbers := make(chan int)
	go func() {
		start := time.Now()
		for number := 0; ; number++ {
			time.Sleep(time.Until(start.Add(time.Second * time.Duration(number) / time.Duration(rate))))
			numbers <- number
		}
	}()
	return numbers
}
