// What the runs of queues share: several consumers, depth, expiry at one instant, a topic for many, in the
// shape of engram-bench. Chosen with -mode; figures go out like those of main.go.
package main

import (
	"encoding/binary"
	"flag"
	"log"
	"os"
	"sort"
	"strconv"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	mode      = flag.String("mode", "", "consumers, depth, ready, drop, expiry or topic; empty: throughput")
	consumers = flag.Int("consumers", 1, "consumers of one queue, or queues of the topic")
	depth     = flag.Int("depth", 10000, "messages that wait, or that expire")
	began     = flag.Int64("began", 0, "ready: when the broker was started, in ns since 1970")
	figure    = flag.String("figure", "", "ready: name of the figure")
)

func runMode() figures {
	switch *mode {
	case "consumers":
		return runConsumers()
	case "depth":
		return runDepth()
	case "ready":
		return runReady()
	case "expiry":
		return runExpiry()
	case "topic":
		return runTopic()
	}
	log.Fatal("load: unknown mode ", *mode)
	return nil
}

// drop deletes a queue that the next run should not carry along.
func drop() {
	_, err := channelOf(dial(*publishTo)).QueueDelete(*queue, false, false, false)
	must(err)
}

// usage is what the broker and this program spent while body ran.
func usage(body func() int) (figures, time.Duration) {
	names, pids := watched()
	own := strconv.Itoa(os.Getpid())
	busy, generator := machineSeconds(), processOf(own).cpu
	before := make([]process, len(pids))
	for i, pid := range pids {
		before[i] = processOf(pid)
	}
	start := time.Now()
	count := body()
	elapsed := time.Since(start)
	result := figures{"seconds": elapsed.Seconds()}
	total := 0.0
	for i, pid := range pids {
		after := processOf(pid)
		total += after.cpu - before[i].cpu
		result["rss_"+names[i]+"_mib"] = after.rss / (1 << 20)
	}
	result["cpu_nodes_us_per_msg"] = total / float64(count) * 1e6
	used := processOf(own).cpu - generator
	result["generator_cores"] = used / elapsed.Seconds()
	result["foreign_cores"] = (machineSeconds() - busy - total - used) / elapsed.Seconds()
	return result, elapsed
}

func quantiles(result figures, prefix string, micros []float64) {
	if len(micros) == 0 {
		return
	}
	sort.Float64s(micros)
	at := func(share float64) float64 {
		rank := int(share*float64(len(micros)) + 0.999999)
		if rank < 1 {
			rank = 1
		}
		return micros[rank-1] / 1000
	}
	result[prefix+"p50_ms"], result[prefix+"p99_ms"], result[prefix+"max_ms"] = at(0.5), at(0.99), at(1)
}

func channelOf(connection *amqp.Connection) *amqp.Channel {
	channel, err := connection.Channel()
	must(err)
	return channel
}

func declareQueue(channel *amqp.Channel, name string) {
	arguments := amqp.Table{}
	switch *declare {
	case "quorum":
		arguments["x-queue-type"] = "quorum"
	case "priority":
		arguments["x-max-priority"] = 5
	}
	_, err := channel.QueueDeclare(name, true, false, false, false, arguments)
	must(err)
}

// waiting asks how many messages are ready in a queue.
func waiting(channel *amqp.Channel, name string) int {
	state, err := channel.QueueInspect(name)
	must(err)
	return state.Messages
}

// sender publishes numbered messages: time in ns since begin, number.
type sender struct {
	channel   *amqp.Channel
	exchange  string
	key       string
	confirmed int64
}

func newSender(exchange, key string) *sender {
	s := &sender{channel: channelOf(dial(*publishTo)), exchange: exchange, key: key}
	must(s.channel.Confirm(false))
	confirmations := s.channel.NotifyPublish(make(chan amqp.Confirmation, 4096))
	go func() {
		for confirmation := range confirmations {
			if !confirmation.Ack {
				atomic.AddInt64(&counts.refused, 1)
			}
			atomic.AddInt64(&s.confirmed, 1)
		}
	}()
	return s
}

func (s *sender) send(number int, due time.Duration, expiration string) {
	body := make([]byte, *size)
	binary.BigEndian.PutUint64(body, uint64(due))
	binary.BigEndian.PutUint32(body[8:], uint32(number))
	must(s.channel.Publish(s.exchange, s.key, false, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, Body: body, Priority: uint8(number%5 + 1), Expiration: expiration}))
}

// fill publishes count messages with at most -window unconfirmed and waits for all confirms.
func (s *sender) fill(count int, expiration func() string) {
	target := atomic.LoadInt64(&s.confirmed) + int64(count)
	for i := 0; i < count; i++ {
		for int64(*window) <= int64(i)-(atomic.LoadInt64(&s.confirmed)-(target-int64(count))) {
			time.Sleep(200 * time.Microsecond)
		}
		s.send(i, time.Since(begin), expiration())
	}
	for atomic.LoadInt64(&s.confirmed) < target {
		time.Sleep(200 * time.Microsecond)
	}
}

func forever() string { return "" }

// attach consumes with manual acknowledgement, in groups when there is much to acknowledge.
func attach(name string, prefetch int, onMessage func(body []byte)) *amqp.Connection {
	connection := dial(*consumeAt)
	channel := channelOf(connection)
	must(channel.Qos(prefetch, 0, false))
	deliveries, err := channel.Consume(name, "", false, false, false, false, nil)
	must(err)
	go func() {
		open := 0
		for message := range deliveries {
			onMessage(message.Body)
			open++
			if open == 32 || len(deliveries) == 0 {
				if message.Ack(true) != nil {
					return
				}
				open = 0
			}
		}
	}()
	return connection
}

func late(body []byte) float64 {
	return float64((time.Since(begin) - time.Duration(binary.BigEndian.Uint64(body))).Microseconds())
}

// prefetch is as in engram-bench.
func prefetch(consumers int) int {
	count := 640 / consumers
	if count < 16 {
		count = 16
	}
	if count > 256 {
		count = 256
	}
	return count
}
