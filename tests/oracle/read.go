package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// bucket is the content of a bucket, keys and values in hex.
type bucket struct {
	Seq     uint64                 `json:"seq"`
	Keys    map[string]interface{} `json:"keys"` // hex value, or hashed
	Buckets map[string]*bucket     `json:"buckets"`
}

type hashed struct {
	Len    int    `json:"len"`
	Sha256 string `json:"sha256"`
}

func dump(req request) (interface{}, error) {
	db, err := openExisting(req.File, req.Options.bolt(true))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var root *bucket
	err = db.View(func(tx *bolt.Tx) error {
		root, err = dumpBucket(tx.Cursor(), tx.Bucket, 0, req.Hash)
		return err
	})
	return root, err
}

func dumpBucket(c *bolt.Cursor, open func([]byte) *bolt.Bucket, seq uint64, hash bool) (*bucket, error) {
	content := &bucket{Seq: seq, Keys: map[string]interface{}{}, Buckets: map[string]*bucket{}}
	for k, v := c.First(); k != nil; k, v = c.Next() {
		name := hex.EncodeToString(k)
		if child := openIfBucket(open, k, v); child != nil {
			sub, err := dumpBucket(child.Cursor(), child.Bucket, child.Sequence(), hash)
			if err != nil {
				return nil, err
			}
			if content.Buckets[name] != nil {
				return nil, fmt.Errorf("bucket %s comes twice", name)
			}
			content.Buckets[name] = sub
			continue
		}
		if content.Keys[name] != nil {
			return nil, fmt.Errorf("key %s comes twice", name)
		}
		if hash {
			sum := sha256.Sum256(v)
			content.Keys[name] = hashed{Len: len(v), Sha256: hex.EncodeToString(sum[:])}
		} else {
			content.Keys[name] = hex.EncodeToString(v)
		}
	}
	return content, nil
}

// openIfBucket opens k when the cursor says that it is a bucket (its value is nil then).
func openIfBucket(open func([]byte) *bolt.Bucket, k, v []byte) *bolt.Bucket {
	if v != nil {
		return nil
	}
	return open(k)
}

// verdict of bbolt on a file.
type verdict struct {
	// What Tx.Check reports, and then what our walk finds that bbolt 1.3.6's check does not look at.
	Errors []string `json:"errors"`
	// Only for rw-copy: what happened when bbolt wrote to the copy, and what check said then.
	Write       string   `json:"write,omitempty"`
	ErrorsAfter []string `json:"errors_after,omitempty"`
}

// check asks bbolt. Mode "rw-copy" works on a copy opened for writing, since opening a file without a freelist for
// writing changes it, and goes on to let bbolt write: put and take back a bucket, and delete the first key of every
// bucket, which is where a wrong branch key or an odd shape does its harm.
func check(req request) (interface{}, error) {
	switch req.Mode {
	case "", "ro":
		db, err := openExisting(req.File, req.Options.bolt(true))
		if err != nil {
			return nil, err
		}
		defer db.Close()
		return verdict{Errors: checkOpen(db)}, nil
	case "rw-copy":
		dir, err := os.MkdirTemp("", "oracle-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "db")
		if err := copyFile(req.File, file); err != nil {
			return nil, err
		}
		o := req.Options.bolt(false)
		o.NoSync, o.NoGrowSync = true, true
		db, err := openExisting(file, o)
		if err != nil {
			return nil, err
		}
		defer db.Close()
		v := verdict{Errors: checkOpen(db), Write: "ok"}
		if err := probeWrites(db); err != nil {
			v.Write = err.Error()
		}
		v.ErrorsAfter = checkOpen(db)
		return v, nil
	default:
		return nil, fmt.Errorf("unknown check mode %q", req.Mode)
	}
}

func checkOpen(db *bolt.DB) []string {
	errors := []string{}
	err := db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			errors = append(errors, err.Error())
		}
		walk("", tx.Cursor(), tx.Bucket, func([]byte) []byte { return nil }, &errors)
		return nil
	})
	if err != nil {
		errors = append(errors, err.Error())
	}
	return errors
}

// walk proves the order of the keys and that each is found by look-up and by seek, forwards and backwards:
// bbolt 1.3.6's own check looks at neither. get is nil-valued for the root, which holds only buckets.
func walk(path string, c *bolt.Cursor, open func([]byte) *bolt.Bucket, get func([]byte) []byte, errors *[]string) {
	report := func(format string, args ...interface{}) {
		*errors = append(*errors, "walk: bucket /"+path+": "+fmt.Sprintf(format, args...))
	}
	var keys [][]byte
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if n := len(keys); n > 0 && bytes.Compare(keys[n-1], k) >= 0 {
			report("key %x comes after %x", k, keys[n-1])
		}
		keys = append(keys, k)
		if v == nil {
			child := open(k)
			if child == nil {
				report("bucket %x is not found by look-up", k)
				continue
			}
			walk(path+hex.EncodeToString(k)+"/", child.Cursor(), child.Bucket, child.Get, errors)
		} else if got := get(k); path != "" && !bytes.Equal(got, v) {
			report("key %x: look-up gives another value", k)
		}
	}
	i := len(keys)
	for k, _ := c.Last(); k != nil; k, _ = c.Prev() {
		i--
		if i < 0 || !bytes.Equal(keys[i], k) {
			report("backwards, key %x comes out of order", k)
			return
		}
	}
	if i != 0 {
		report("backwards, %d keys are missing", i)
	}
	for _, want := range keys {
		if k, _ := c.Seek(want); !bytes.Equal(k, want) {
			report("seeking %x finds %x", want, k)
		}
	}
}

// probeWrites makes bbolt rewrite as many paths as it can.
func probeWrites(db *bolt.DB) error {
	name := []byte("boltfs oracle probe")
	if err := db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), bytes.Repeat([]byte("v"), 5000))
	}); err != nil {
		return err
	}
	if err := db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket(name) }); err != nil {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error { return deleteFirstKeys(tx.Cursor(), tx.Bucket) })
}

func deleteFirstKeys(c *bolt.Cursor, open func([]byte) *bolt.Bucket) error {
	deleted := false
	var children [][]byte
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if v == nil {
			children = append(children, append([]byte{}, k...))
		}
	}
	for k, v := c.First(); k != nil && !deleted; k, v = c.Next() {
		if v != nil {
			if err := c.Delete(); err != nil {
				return err
			}
			deleted = true
		}
	}
	for _, k := range children {
		child := open(k)
		if child == nil {
			return fmt.Errorf("bucket %x is not found by look-up", k)
		}
		if err := deleteFirstKeys(child.Cursor(), child.Bucket); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

type pageLine struct {
	ID       int    `json:"id"`
	Type     string `json:"type"`
	Count    int    `json:"count"`
	Overflow int    `json:"overflow"`
}

// pages lists each run once, free pages one by one.
func pages(req request) (interface{}, error) {
	// Only a database opened for writing has its freelist loaded, and Tx.Page looks at it; Check loads it otherwise.
	db, err := openExisting(req.File, req.Options.bolt(true))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	list := []pageLine{}
	err = db.View(func(tx *bolt.Tx) error {
		for range tx.Check() {
		}
		for id := 0; ; {
			p, err := tx.Page(id)
			if err != nil || p == nil {
				return err
			}
			list = append(list, pageLine{ID: p.ID, Type: p.Type, Count: p.Count, Overflow: p.OverflowCount})
			id++
			if p.Type != "free" {
				id += p.OverflowCount
			}
		}
	})
	return list, err
}

func stats(req request) (interface{}, error) {
	db, err := openExisting(req.File, req.Options.bolt(true))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var result struct {
		PageSize int              `json:"page_size"`
		TxID     int              `json:"txid"`
		Size     int64            `json:"size"`    // high-water mark in bytes
		Buckets  bolt.BucketStats `json:"buckets"` // summed over all, nested ones too
	}
	result.PageSize = db.Info().PageSize
	err = db.View(func(tx *bolt.Tx) error {
		result.TxID = tx.ID()
		result.Size = tx.Size()
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			result.Buckets.Add(b.Stats())
			return nil
		})
	})
	return result, err
}
