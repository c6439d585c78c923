package main

import (
	"fmt"
	"math/rand"
	"time"

	bolt "go.etcd.io/bbolt"
)

// bulk describes a database made from a seed: `buckets` buckets, each of `keys` keys in `depth` nested levels, with
// values of `value` bytes.
type bulk struct {
	Buckets int    `json:"buckets"` // 0: 1; named bucket-000000, …
	Depth   int    `json:"depth"`   // 0: no nesting; n: n levels of a sub-bucket named "sub", each with the same keys
	Keys    int    `json:"keys"`    // in each bucket
	Key     string `json:"key"`     // "text" (default): key-00000000, …; "binary": 8 bytes big-endian; "random": 16 bytes
	Value   int    `json:"value"`   // bytes of each value
	Kind    string `json:"kind"`    // "random" (default): bytes; "json": a compact object of about that size
	Seed    int64  `json:"seed"`
	Batch   int    `json:"batch"` // keys in a transaction; 0: 100000
}

// create makes the file anew, quickly: without syncs until the end. Pages are filled by 90 %, unless told otherwise.
func create(req request) (interface{}, error) {
	if req.Bulk == nil {
		return nil, fmt.Errorf("create needs \"bulk\"")
	}
	spec := *req.Bulk
	if spec.Buckets == 0 {
		spec.Buckets = 1
	}
	if spec.Batch == 0 {
		spec.Batch = 100000
	}
	fill := req.Options.FillPercent
	if fill == 0 {
		fill = 0.9
	}
	o := req.Options.bolt(false)
	o.NoSync, o.NoGrowSync = true, true
	db, err := bolt.Open(req.File, 0o600, o)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	started := time.Now()
	random := rand.New(rand.NewSource(spec.Seed))
	for n := 0; n < spec.Buckets; n++ {
		path := [][]byte{[]byte(fmt.Sprintf("bucket-%06d", n))}
		for depth := 0; depth <= spec.Depth; depth++ {
			if err := fillBucket(db, path, spec, fill, random); err != nil {
				return nil, err
			}
			path = append(path, []byte("sub"))
		}
	}
	if err := db.Sync(); err != nil {
		return nil, err
	}
	return timing{UpdateNs: []int64{time.Since(started).Nanoseconds()}}, nil
}

func fillBucket(db *bolt.DB, path [][]byte, spec bulk, fill float64, random *rand.Rand) error {
	for from := 0; from == 0 || from < spec.Keys; from += spec.Batch {
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(path[0])
			for _, name := range path[1:] {
				if err == nil {
					b, err = b.CreateBucketIfNotExists(name)
				}
			}
			if err != nil {
				return err
			}
			b.FillPercent = fill
			for i := from; i < spec.Keys && i < from+spec.Batch; i++ {
				if err := b.Put(bulkKey(spec, i, random), bulkValue(spec, i, random)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func bulkKey(spec bulk, i int, random *rand.Rand) []byte {
	switch spec.Key {
	case "binary":
		n := uint64(i)
		return []byte{byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	case "random":
		k := make([]byte, 16)
		random.Read(k)
		return k
	default:
		return []byte(fmt.Sprintf("key-%08d", i))
	}
}

func bulkValue(spec bulk, i int, random *rand.Rand) []byte {
	v := make([]byte, spec.Value)
	if spec.Kind != "json" {
		random.Read(v)
		return v
	}
	for n := range v {
		v[n] = "abcdefghijklmnopqrstuvwxyz012345"[random.Intn(32)]
	}
	return []byte(fmt.Sprintf(`{"id":%d,"name":"item-%d","payload":"%s"}`, i, i, v[:max(0, len(v)-45)]))
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}
