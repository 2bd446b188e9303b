//go:build unix

package jobs

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// TestQueueDepthIsWhatTheExporterReads takes the queue's depth from where prometheus-nats-exporter takes its metrics
// jetstream_consumer_num_pending and jetstream_consumer_num_ack_pending: the server's /jsz.
func TestQueueDepthIsWhatTheExporterReads(t *testing.T) {
	ctx := bounded(t)
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, HTTPHost: "127.0.0.1", HTTPPort: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	require.NoError(t, err)
	s.Start()
	defer s.Shutdown()
	require.True(t, s.ReadyForConnections(time.Minute))
	q, err := Connect(ctx, Access{URL: s.ClientURL()}, short)
	require.NoError(t, err)
	defer q.Close()
	r := opened(t)
	w := &Worker{Queue: q, Restorer: r}
	_, msg := delivered(ctx, t, q, w) // one at work
	in := submission(t, t.TempDir(), 4, r.ModelDigest())
	in.Options, in.Expert = Options{}, nil // to be routed
	res, err := q.Submit(ctx, in)
	require.NoError(t, err)
	require.Equal(t, 4, res.New)
	require.NoError(t, msg.InProgress())

	answer, err := http.Get("http://" + s.MonitorAddr().String() + "/jsz?consumers=true&config=true")
	require.NoError(t, err)
	defer answer.Body.Close()
	var info server.JSInfo
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&info))
	depth := map[string]uint64{}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			if stream.Name != streamName {
				continue
			}
			for _, c := range stream.Consumer {
				depth[c.Name] += c.NumPending + uint64(c.NumAckPending)
			}
		}
	}
	require.Len(t, depth, len(w.stages), "a consumer a stage")
	require.EqualValues(t, 4, depth[w.model+"-route"])
	require.EqualValues(t, 1, depth[w.model+"-e9"])
}
