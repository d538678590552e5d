package main

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// A request takes this long where there is a ledger, so that some are being worked on whenever a server ends.
const work = 20 * time.Millisecond

// ledger is a file that servers write into together, and that is still there when they are not.
type ledger struct {
	lock sync.Mutex
	file *os.File
	pod  string
}

// entry is a line of it: a request that began, or the end of the server where there is no request. In nanoseconds of the
// clock.
type entry struct {
	Pod     string `json:"pod"`
	Request string `json:"request,omitempty"`
	At      int64  `json:"at"`
}

func openLedger(path, pod string) (*ledger, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &ledger{file: file, pod: pod}, err
}

func (ledger *ledger) write(request string) error {
	line, err := json.Marshal(entry{ledger.pod, request, time.Now().UnixNano()})
	if err != nil {
		return err
	}
	ledger.lock.Lock()
	defer ledger.lock.Unlock()
	_, err = ledger.file.Write(append(line, '\n'))
	return err
}
