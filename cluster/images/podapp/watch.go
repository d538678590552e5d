package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Between two requests of a watch.
const watchInterval = 2 * time.Millisecond

// change is another pod that answers than before, and when the first request began that it answered, in nanoseconds of
// the clock.
type change struct {
	Pod string `json:"pod"`
	At  int64  `json:"at"`
}

// watch asks without end over one connection, from when it is asked itself, and tells under address whenever another pod
// answered. Those that were told before are left out: their number is the query's `after`.
func watch(target, address string) error {
	changes := []change{}
	var lock sync.Mutex
	failed := make(chan error)
	begin := sync.OnceFunc(func() {
		go func() { failed <- follow(target, &changes, &lock) }()
	})
	http.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		begin()
		after, _ := strconv.Atoi(request.URL.Query().Get("after"))
		lock.Lock()
		defer lock.Unlock()
		json.NewEncoder(writer).Encode(changes[min(max(after, 0), len(changes)):])
	})
	go func() { failed <- http.ListenAndServe(address, nil) }()
	return <-failed
}

func follow(target string, changes *[]change, lock *sync.Mutex) error {
	asked := httpLoad{target: target, keep: true}
	last := ""
	for {
		start := time.Now().UnixNano()
		came, err := asked.ask("get-watched")
		if err != nil {
			return err
		}
		if came.pod != last {
			last = came.pod
			lock.Lock()
			*changes = append(*changes, change{last, start})
			lock.Unlock()
		}
		time.Sleep(watchInterval)
	}
}
