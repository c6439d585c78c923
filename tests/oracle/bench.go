package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

// benchmark describes the edits of one transaction on the first bucket that `create` made with text keys. They are made
// while the transaction runs, so that no list of them counts as bbolt's memory.
type benchmark struct {
	Change int  `json:"change"` // so many keys get another value …
	Of     int  `json:"of"`     // … scattered over this many: key n * Stride % Of
	Stride int  `json:"stride"`
	Value  int  `json:"value"` // bytes of a new value
	Empty  bool `json:"empty"` // delete every key instead
	Drop   bool `json:"drop"`  // delete the bucket instead
}

type measured struct {
	UpdateNs   int64 `json:"update_ns"`    // Update alone, with its syncs
	PeakAnonKb int64 `json:"peak_anon_kb"` // of the process, while it ran
}

// changedValue is the n-th new value; benches/bench writes the same.
func changedValue(n, size int) []byte {
	text := fmt.Sprintf("changed %08d ", n)
	return []byte(strings.Repeat(text, size/len(text)+1)[:size])
}

func benchUpdate(req request) (interface{}, error) {
	spec := *req.Benchmark
	db, err := openExisting(req.File, req.Options.bolt(false))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	name := []byte("bucket-000000")
	stop, peak := watchMemory()
	started := time.Now()
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(name)
		switch {
		case b == nil:
			return bolt.ErrBucketNotFound
		case spec.Drop:
			return tx.DeleteBucket(name)
		case spec.Empty:
			for i := 0; i < spec.Of; i++ {
				if err := b.Delete([]byte(fmt.Sprintf("key-%08d", i))); err != nil {
					return err
				}
			}
			return nil
		}
		for n := 0; n < spec.Change; n++ {
			key := fmt.Sprintf("key-%08d", n*spec.Stride%spec.Of)
			if err := b.Put([]byte(key), changedValue(n, spec.Value)); err != nil {
				return err
			}
		}
		return nil
	})
	took := time.Since(started).Nanoseconds()
	close(stop)
	return measured{UpdateNs: took, PeakAnonKb: atomic.LoadInt64(peak)}, err
}

// benchCheck is Tx.Check alone, as `bbolt check` runs it.
func benchCheck(req request) (interface{}, error) {
	db, err := openExisting(req.File, req.Options.bolt(true))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	started := time.Now()
	err = db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	})
	return measured{UpdateNs: time.Since(started).Nanoseconds()}, err
}

// watchMemory looks at the anonymous memory of this process until `stop` is closed.
func watchMemory() (stop chan struct{}, peak *int64) {
	stop, peak = make(chan struct{}), new(int64)
	go func() {
		for {
			if now := anonKb(); now > atomic.LoadInt64(peak) {
				atomic.StoreInt64(peak, now)
			}
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return stop, peak
}

func anonKb() int64 {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "RssAnon:" {
			kb, _ := strconv.ParseInt(fields[1], 10, 64)
			return kb
		}
	}
	return 0
}
