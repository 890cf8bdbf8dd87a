package producer_test

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

var jsonFile = flag.String("json.file", "", "a JSON file for BenchmarkCompressJSON: a list of objects with a list of examples each, as in index.json of npm's @octokit/webhooks-examples (MIT)")

// BenchmarkCompressJSON tells what WithCompression saves and costs on real
// messages: events of a large web service.
//
//	go test ./producer -run '^$' -bench CompressJSON -json.file index.json
func BenchmarkCompressJSON(b *testing.B) {
	if *jsonFile == "" {
		b.Skip("run with -json.file")
	}
	text, err := os.ReadFile(*jsonFile)
	require.NoError(b, err)
	var events []struct{ Examples []json.RawMessage }
	require.NoError(b, json.Unmarshal(text, &events))
	var bodies [][]byte
	total := 0
	for _, e := range events {
		for _, x := range e.Examples {
			compact, err := json.Marshal(x)
			require.NoError(b, err)
			bodies = append(bodies, compact)
			total += len(compact)
		}
	}
	for _, e := range []message.Encoding{message.Zlib, message.Zstd} {
		packed := make([][]byte, len(bodies))
		b.Run(e.String()+"/compress", func(b *testing.B) {
			b.SetBytes(int64(total / len(bodies)))
			size := 0
			for i := 0; b.Loop(); i++ {
				n := i % len(bodies)
				var err error
				if packed[n], err = message.Compress(packed[n][:0], bodies[n], e); err != nil {
					b.Fatal(err)
				}
			}
			for n := range bodies {
				packed[n], _ = message.Compress(packed[n][:0], bodies[n], e)
				size += len(packed[n])
			}
			b.ReportMetric(float64(total)/float64(size), "ratio")
			b.ReportMetric(float64(total)/float64(len(bodies)), "bytes/body")
		})
		b.Run(e.String()+"/inflate", func(b *testing.B) {
			b.SetBytes(int64(total / len(bodies)))
			var buf []byte
			for i := 0; b.Loop(); i++ {
				var err error
				if buf, err = message.Inflate(buf[:0], packed[i%len(packed)], e, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
