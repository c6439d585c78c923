package main

import (
	"encoding/hex"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// edit is one step of a transaction. Path names the bucket that it works in, from the root; all names are hex.
//
//	put, delete         Key (and Value) in bucket Path
//	create-bucket       Path, its parents must be there; it must not
//	delete-bucket       Path, with all that is in it
//	set-sequence        of bucket Path
type edit struct {
	Do    string   `json:"do"`
	Path  []string `json:"path"`
	Key   string   `json:"key"`
	Value string   `json:"value"`
	Seq   uint64   `json:"seq"`
}

type timing struct {
	OpenNs   int64   `json:"open_ns"`
	UpdateNs []int64 `json:"update_ns"` // one for each transaction
	TxID     int     `json:"txid"`      // after the last
}

// runScript applies each list of edits in one Update; the first error ends it, with that transaction rolled back.
func runScript(req request) (interface{}, error) {
	started := time.Now()
	db, err := bolt.Open(req.File, 0o600, req.Options.bolt(false))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	t := timing{OpenNs: time.Since(started).Nanoseconds(), UpdateNs: []int64{}}
	for n, edits := range req.Script {
		// Decoding is not part of what is measured.
		steps := make([]step, len(edits))
		for i, e := range edits {
			if steps[i], err = e.decode(); err != nil {
				return nil, err
			}
		}
		started := time.Now()
		if err := db.Update(func(tx *bolt.Tx) error {
			for i, s := range steps {
				if err := s.apply(tx, req.Options.FillPercent); err != nil {
					return fmt.Errorf("transaction %d, edit %d (%s): %w", n, i, s.do, err)
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
		t.UpdateNs = append(t.UpdateNs, time.Since(started).Nanoseconds())
	}
	err = db.View(func(tx *bolt.Tx) error { t.TxID = tx.ID(); return nil })
	return t, err
}

type step struct {
	do         string
	path       [][]byte
	key, value []byte
	seq        uint64
}

func (e edit) decode() (step, error) {
	s := step{do: e.Do, seq: e.Seq}
	for _, name := range e.Path {
		b, err := hex.DecodeString(name)
		if err != nil {
			return s, err
		}
		s.path = append(s.path, b)
	}
	var err error
	if s.key, err = hex.DecodeString(e.Key); err != nil {
		return s, err
	}
	s.value, err = hex.DecodeString(e.Value)
	return s, err
}

// parent is what buckets are created in and deleted from: a transaction or a bucket.
type parent interface {
	Bucket(name []byte) *bolt.Bucket
	CreateBucket(name []byte) (*bolt.Bucket, error)
	DeleteBucket(name []byte) error
}

func (s step) apply(tx *bolt.Tx, fill float64) error {
	open := func(path [][]byte) (parent, *bolt.Bucket, error) {
		var p parent = tx
		var b *bolt.Bucket
		for _, name := range path {
			b = p.Bucket(name)
			if b == nil {
				return nil, nil, fmt.Errorf("%x: %w", name, bolt.ErrBucketNotFound)
			}
			if fill > 0 {
				b.FillPercent = fill
			}
			p = b
		}
		return p, b, nil
	}
	if len(s.path) == 0 {
		return fmt.Errorf("the root holds only buckets")
	}
	if s.do == "create-bucket" || s.do == "delete-bucket" {
		p, _, err := open(s.path[:len(s.path)-1])
		if err != nil {
			return err
		}
		name := s.path[len(s.path)-1]
		if s.do == "delete-bucket" {
			return deleteBucket(p, name)
		}
		_, err = p.CreateBucket(name)
		return err
	}
	_, b, err := open(s.path)
	if err != nil {
		return err
	}
	switch s.do {
	case "put":
		return b.Put(s.key, s.value)
	case "delete":
		return b.Delete(s.key)
	case "set-sequence":
		return b.SetSequence(s.seq)
	default:
		return fmt.Errorf("unknown edit %q", s.do)
	}
}

// deleteBucket removes sub-buckets one by one first. bbolt 1.3.6 deletes them while it iterates over them, skips every
// other one and so leaks their pages ("unreachable unfreed"), which would drown what check says about our own writing.
func deleteBucket(p parent, name []byte) error {
	if b := p.Bucket(name); b != nil {
		var children [][]byte
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if v == nil {
				children = append(children, append([]byte{}, k...))
			}
		}
		for _, child := range children {
			if err := deleteBucket(b, child); err != nil {
				return err
			}
		}
	}
	return p.DeleteBucket(name)
}
