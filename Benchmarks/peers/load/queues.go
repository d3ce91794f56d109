// The life of messages in queues, in the shape of engram-bench: several consumers, depth, expiry at one instant, a
// topic for many. Chosen with -mode; figures go out as one line of JSON like those of main.go.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	mode      = flag.String("mode", "", "consumers, depth, ready, expiry or topic; empty: one queue, one consumer")
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

// MARK: consumers

func runConsumers() figures {
	control := channelOf(dial(*publishTo))
	declareQueue(control, *queue)
	room := make(chan struct{}, *window)
	var mutex sync.Mutex
	var micros []float64
	var measuring int32
	shares := make([]int64, *consumers)
	for i := 0; i < *consumers; i++ {
		share := &shares[i]
		attach(*queue, prefetch(*consumers), func(body []byte) {
			<-room
			if atomic.LoadInt32(&measuring) == 0 {
				return
			}
			atomic.AddInt64(share, 1)
			mutex.Lock()
			micros = append(micros, late(body))
			mutex.Unlock()
		})
	}
	for i := 0; i < *publishers; i++ {
		publisher := newSender("", *queue)
		go func() {
			for number := 0; ; number++ {
				room <- struct{}{}
				publisher.send(number, time.Since(begin), "")
			}
		}()
	}
	time.Sleep(duration(*warmup))
	result, elapsed := usage(func() int {
		atomic.StoreInt32(&measuring, 1)
		time.Sleep(duration(*seconds))
		atomic.StoreInt32(&measuring, 0)
		mutex.Lock()
		defer mutex.Unlock()
		return len(micros)
	})
	mutex.Lock()
	defer mutex.Unlock()
	result["processed_per_s"] = float64(len(micros)) / elapsed.Seconds()
	quantiles(result, "", micros)
	least, sum := int64(1<<62), int64(0)
	for i := range shares {
		share := atomic.LoadInt64(&shares[i])
		sum += share
		if share < least {
			least = share
		}
	}
	result["least_share"] = float64(least) * float64(*consumers) / float64(sum)
	return result
}

// MARK: depth

func runDepth() figures {
	control := channelOf(dial(*publishTo))
	declareQueue(control, *queue)
	publisher := newSender("", *queue)
	chunk := *depth / 2
	if chunk > 10000 {
		chunk = 10000
	}
	all := figures{}
	note := func(name string, count int, body func()) {
		result, elapsed := usage(func() int { body(); return count })
		all[name+"_us_per_msg"] = result["cpu_nodes_us_per_msg"]
		all[name+"_ms_per_1000"] = elapsed.Seconds() / float64(count) * 1e6
		all[name+"_per_s"] = float64(count) / elapsed.Seconds()
		all["rss_node_mib"], all["foreign_cores"] = result["rss_node_mib"], result["foreign_cores"]
	}
	missing := *depth - waiting(control, *queue)
	note("fill", missing, func() { publisher.fill(missing, forever) })
	note("enqueue", chunk, func() { publisher.fill(chunk, forever) })
	start := time.Now()
	note("dequeue", chunk, func() {
		var taken int64
		done := make(chan struct{})
		connection := dial(*consumeAt)
		channel := channelOf(connection)
		must(channel.Qos(256, 0, false))
		deliveries, err := channel.Consume(*queue, "", false, false, false, false, nil)
		must(err)
		go func() {
			for message := range deliveries {
				taken++
				if taken == 1 {
					all["first_ms"] = time.Since(start).Seconds() * 1000
				}
				if taken%32 == 0 || taken == int64(chunk) {
					must(message.Ack(true))
				}
				if taken == int64(chunk) {
					close(done)
					return
				}
			}
		}()
		<-done
		must(channel.Close())
		must(connection.Close())
	})
	waitForCount(control, *depth)
	return all
}

func waitForCount(channel *amqp.Channel, count int) {
	for deadline := time.Now().Add(time.Minute); waiting(channel, *queue) != count; {
		if time.Now().After(deadline) {
			log.Fatalf("load: %d messages wait instead of %d", waiting(channel, *queue), count)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// runReady waits for a broker that has just been started until its queue hands out a message, which goes back. Then
// nothing may be missing.
func runReady() figures {
	var result figures
	problem := error(nil)
	for deadline := time.Now().Add(3 * time.Minute); result == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			log.Fatal("load: the queue did not come back: ", problem)
		}
		connection, err := tryDial(*publishTo)
		if err != nil {
			continue
		}
		if channel, err := connection.Channel(); err == nil {
			message, found, err := channel.Get(*queue, false)
			if found {
				result = figures{*figure: float64(time.Now().UnixNano()-*began) / 1e6}
				must(message.Nack(false, true))
			}
			problem = err
		}
		connection.Close()
	}
	waitForCount(channelOf(dial(*publishTo)), *depth)
	return result
}

// MARK: expiry

func runExpiry() figures {
	control := channelOf(dial(*publishTo))
	for _, name := range []string{*queue, *queue + "-live"} {
		declareQueue(control, name)
	}
	publisher := newSender("", *queue)
	end := time.Now().Add(duration(float64(*depth)/6000 + 4 + *warmup + *seconds))
	publisher.fill(*depth, func() string {
		return strconv.FormatInt(int64(time.Until(end)/time.Millisecond), 10)
	})
	from := end.Add(-duration(*warmup + *seconds))
	if time.Now().After(from) {
		log.Fatal("load: the fill took too long")
	}
	waitForCount(control, *depth)
	time.Sleep(time.Until(from))
	type arrival struct {
		at     time.Time
		micros float64
	}
	var mutex sync.Mutex
	var arrivals []arrival
	attach(*queue+"-live", 256, func(body []byte) {
		mutex.Lock()
		arrivals = append(arrivals, arrival{time.Now(), late(body)})
		mutex.Unlock()
	})
	live := newSender("", *queue+"-live")
	var stopped int32
	sent := make(chan int)
	go func() {
		interval, due, number := duration(1 / *rate), time.Since(begin), 0
		for ; atomic.LoadInt32(&stopped) == 0; number++ {
			time.Sleep(due - time.Since(begin))
			live.send(number, due, "")
			due += interval
		}
		sent <- number
	}()
	time.Sleep(time.Until(end))
	var done time.Time
	result, elapsed := usage(func() int {
		for waiting(control, *queue) > 0 {
			time.Sleep(20 * time.Millisecond)
		}
		done = time.Now()
		return *depth
	})
	time.Sleep(duration(*seconds))
	atomic.StoreInt32(&stopped, 1)
	count := <-sent
	time.Sleep(time.Second)
	mutex.Lock()
	defer mutex.Unlock()
	if len(arrivals) != count {
		log.Fatalf("load: %d of %d live messages arrived", len(arrivals), count)
	}
	parts := map[string][]float64{}
	for _, a := range arrivals {
		name := "during_"
		if a.at.Before(end) {
			name = "before_"
		} else if a.at.After(done) {
			name = "after_"
		}
		if a.at.After(from.Add(duration(*warmup))) {
			parts[name] = append(parts[name], a.micros)
		}
	}
	for name, micros := range parts {
		quantiles(result, name, micros)
	}
	result["expiry_seconds"] = elapsed.Seconds()
	result["expired_per_s"] = float64(*depth) / elapsed.Seconds()
	result["expiry_us_per_msg"] = result["cpu_nodes_us_per_msg"]
	delete(result, "cpu_nodes_us_per_msg")
	return result
}

// MARK: topic

func runTopic() figures {
	control := channelOf(dial(*publishTo))
	exchange := *queue
	must(control.ExchangeDeclare(exchange, "topic", true, false, false, false, nil))
	const publicationsMax = 20000
	var mutex sync.Mutex
	var arrived [publicationsMax]int
	var last, any []float64
	var deliveries int64
	free := make(chan struct{}, 8)
	var pacing int32 = 1
	for i := 0; i < *consumers; i++ {
		name := fmt.Sprintf("%s-%d", exchange, i)
		declareQueue(control, name)
		must(control.QueueBind(name, "orders.*", exchange, false, nil))
		attach(name, 64, func(body []byte) {
			number := binary.BigEndian.Uint32(body[8:])
			mutex.Lock()
			defer mutex.Unlock()
			deliveries++
			arrived[number]++
			if atomic.LoadInt32(&pacing) == 1 {
				any = append(any, late(body))
			}
			if arrived[number] != *consumers {
				return
			}
			if atomic.LoadInt32(&pacing) == 1 {
				last = append(last, late(body))
			} else {
				<-free
			}
		})
	}
	publisher := newSender(exchange, "orders.new")
	interval, due, number := duration(1 / *rate), time.Since(begin), 0
	for ; number < int(*rate*(*warmup+*seconds)); number++ {
		time.Sleep(due - time.Since(begin))
		publisher.send(number, due, "")
		due += interval
	}
	time.Sleep(time.Second)
	mutex.Lock()
	if len(last) != number {
		log.Fatalf("load: %d of %d publications reached everybody", len(last), number)
	}
	last, any = last[int(*rate**warmup):], any[int(*rate**warmup)**consumers:]
	mutex.Unlock()
	atomic.StoreInt32(&pacing, 0)
	go func() {
		for ; number < publicationsMax; number++ {
			free <- struct{}{}
			publisher.send(number, time.Since(begin), "")
		}
	}()
	time.Sleep(duration(*warmup))
	count := func() int { mutex.Lock(); defer mutex.Unlock(); return int(deliveries) }
	first := count()
	result, elapsed := usage(func() int { time.Sleep(duration(*seconds)); return count() - first })
	made := float64(count()-first) / elapsed.Seconds()
	result["delivered_per_s"], result["published_per_s"] = made, made/float64(*consumers)
	quantiles(result, "", last)
	quantiles(result, "delivery_", any)
	return result
}
