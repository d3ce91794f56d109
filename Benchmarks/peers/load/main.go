// Load for RabbitMQ in the shape of engram-bench: publishers with a window of unconfirmed messages (or at a
// constant rate), one consumer, figures as one line of JSON.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	scenario   = flag.String("scenario", "", "name of the run in the output")
	publishTo  = flag.String("publish", "", "host:port of the broker that is published to")
	consumeAt  = flag.String("consume", "", "host:port of the broker that is consumed from")
	authority  = flag.String("ca", "", "PEM file of the authority")
	queue      = flag.String("queue", "", "name of the queue")
	declare    = flag.String("declare", "classic", "type of the queue: classic or quorum; always durable")
	processes  = flag.String("processes", "", "name=pid,… whose CPU and memory are reported")
	publishers = flag.Int("publishers", 2, "connections that publish")
	window     = flag.Int("window", 2048, "messages of all publishers on their way")
	release    = flag.String("release", "confirm", "what makes room in the window: confirm or delivery")
	rate       = flag.Float64("rate", 0, "messages per second; 0 is as fast as the window allows")
	size       = flag.Int("size", 1024, "bytes of a body")
	warmup     = flag.Float64("warmup", 1, "seconds before measuring")
	seconds    = flag.Float64("seconds", 4, "seconds that are measured")
)

// Each body begins with the time it was due (or written) and the number of its publisher.
const headBytes = 12

type counters struct {
	confirmed, delivered, refused int64
	measuring                     int32
	mutex                         sync.Mutex
	micros                        []float64
}

var (
	begin  = time.Now()
	counts counters
	room   []chan struct{}
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if *mode == "drop" {
		drop()
		return
	}
	if *mode != "" {
		report(runMode())
		return
	}
	room = make([]chan struct{}, *publishers)
	for i := range room {
		room[i] = make(chan struct{}, *window / *publishers)
	}
	consumer := dial(*consumeAt)
	declareAt(consumer)
	consume(consumer)
	connections := make([]*amqp.Connection, *publishers)
	for i := range connections {
		connections[i] = dial(*publishTo)
	}
	declareAt(connections[0])
	for i, connection := range connections {
		go publish(i, connection)
	}
	time.Sleep(duration(*warmup))
	report(measure())
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func must(err error) {
	if err != nil {
		log.Fatal("load: ", err)
	}
}

// dial waits for a broker that is still starting.
func dial(address string) *amqp.Connection {
	for attempt := 0; ; attempt++ {
		connection, err := tryDial(address)
		if err == nil {
			return connection
		}
		if attempt == 60 {
			must(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func tryDial(address string) (*amqp.Connection, error) {
	pem, err := os.ReadFile(*authority)
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13}
	return amqp.DialTLS("amqps://guest:guest@"+address+"/", config)
}

// declareAt makes the queue unless it is there; messages that an earlier run left in it are thrown away.
func declareAt(connection *amqp.Connection) {
	channel, err := connection.Channel()
	must(err)
	arguments := amqp.Table{}
	if *declare == "quorum" {
		arguments["x-queue-type"] = "quorum"
	}
	_, err = channel.QueueDeclare(*queue, true, false, false, false, arguments)
	must(err)
	_, err = channel.QueuePurge(*queue, false)
	must(err)
	must(channel.Close())
}

// consume acknowledges in groups when there is much to acknowledge, which is the cheaper way for the broker.
func consume(connection *amqp.Connection) {
	channel, err := connection.Channel()
	must(err)
	must(channel.Qos(2000, 0, false))
	deliveries, err := channel.Consume(*queue, "", false, false, false, false, nil)
	must(err)
	go func() {
		open := 0
		for message := range deliveries {
			received(message.Body)
			open++
			if *rate > 0 || open == 32 {
				must(message.Ack(true))
				open = 0
			}
		}
	}()
}

func received(body []byte) {
	if len(body) < headBytes {
		return
	}
	if *release == "delivery" && *rate == 0 {
		<-room[binary.BigEndian.Uint32(body[8:])]
	}
	if atomic.LoadInt32(&counts.measuring) == 0 {
		return
	}
	atomic.AddInt64(&counts.delivered, 1)
	late := time.Since(begin) - time.Duration(binary.BigEndian.Uint64(body))
	counts.mutex.Lock()
	counts.micros = append(counts.micros, float64(late.Microseconds()))
	counts.mutex.Unlock()
}

func publish(number int, connection *amqp.Connection) {
	channel, err := connection.Channel()
	must(err)
	must(channel.Confirm(false))
	confirmations := channel.NotifyPublish(make(chan amqp.Confirmation, *window))
	go func() {
		for confirmation := range confirmations {
			if !confirmation.Ack {
				atomic.AddInt64(&counts.refused, 1)
			}
			if *release == "confirm" && *rate == 0 {
				<-room[number]
			}
			if atomic.LoadInt32(&counts.measuring) == 1 {
				atomic.AddInt64(&counts.confirmed, 1)
			}
		}
	}()
	pace := newPace(number)
	for {
		if *rate == 0 {
			room[number] <- struct{}{}
		}
		body := make([]byte, *size)
		binary.BigEndian.PutUint64(body, uint64(pace.due()))
		binary.BigEndian.PutUint32(body[8:], uint32(number))
		must(channel.Publish("", *queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}))
	}
}

// pace says when the next message is due: now, or at a constant rate shared by the publishers.
type pace struct {
	interval, next time.Duration
}

func newPace(number int) *pace {
	if *rate == 0 {
		return &pace{}
	}
	interval := time.Duration(float64(time.Second) * float64(*publishers) / *rate)
	return &pace{interval, time.Since(begin) + interval*time.Duration(number)/time.Duration(*publishers)}
}

func (p *pace) due() time.Duration {
	if p.interval == 0 {
		return time.Since(begin)
	}
	due := p.next
	p.next += p.interval
	if wait := due - time.Since(begin); wait > 0 {
		time.Sleep(wait)
	}
	return due
}

type figures map[string]float64

func measure() figures {
	names, pids := watched()
	own := strconv.Itoa(os.Getpid())
	busy, generator := machineSeconds(), processOf(own).cpu
	before := make([]process, len(pids))
	for i, pid := range pids {
		before[i] = processOf(pid)
	}
	start := time.Now()
	atomic.StoreInt32(&counts.measuring, 1)
	time.Sleep(duration(*seconds))
	atomic.StoreInt32(&counts.measuring, 0)
	elapsed := time.Since(start).Seconds()

	delivered := float64(atomic.LoadInt64(&counts.delivered))
	result := figures{"seconds": elapsed, "delivered_per_s": delivered / elapsed}
	result["accepted_per_s"] = float64(atomic.LoadInt64(&counts.confirmed)) / elapsed
	total := 0.0
	for i, pid := range pids {
		after := processOf(pid)
		used := after.cpu - before[i].cpu
		total += used
		result["cpu_"+names[i]+"_us_per_msg"] = used / delivered * 1e6
		result["rss_"+names[i]+"_mib"] = after.rss / (1 << 20)
	}
	result["cpu_nodes_us_per_msg"] = total / delivered * 1e6
	used := processOf(own).cpu - generator
	result["generator_cores"] = used / elapsed
	result["foreign_cores"] = (machineSeconds() - busy - total - used) / elapsed
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		result["load_1min"], _ = strconv.ParseFloat(strings.Fields(string(load))[0], 64)
	}
	addLatencies(result)
	return result
}

func addLatencies(result figures) {
	counts.mutex.Lock()
	defer counts.mutex.Unlock()
	micros := counts.micros
	if len(micros) == 0 {
		log.Fatal("load: nothing was delivered")
	}
	sort.Float64s(micros)
	at := func(share float64) float64 {
		rank := int(share*float64(len(micros)) + 0.999999)
		if rank < 1 {
			rank = 1
		}
		return micros[rank-1] / 1000
	}
	result["p50_ms"], result["p99_ms"], result["max_ms"] = at(0.5), at(0.99), at(1)
	result["latency_samples"] = float64(len(micros))
}

func report(result figures) {
	if refused := atomic.LoadInt64(&counts.refused); refused > 0 {
		log.Fatalf("load: %d messages were refused", refused)
	}
	parameters := fmt.Sprintf("window=%d connections=%d", *window, *publishers)
	if *rate > 0 {
		parameters = fmt.Sprintf("connections=%d", *publishers)
	}
	line, err := json.Marshal(map[string]interface{}{
		"scenario": *scenario, "parameters": parameters, "figures": result,
	})
	must(err)
	fmt.Println(string(line))
}

func watched() (names, pids []string) {
	for _, part := range strings.Split(*processes, ",") {
		if pair := strings.SplitN(part, "=", 2); len(pair) == 2 {
			names, pids = append(names, pair[0]), append(pids, pair[1])
		}
	}
	return
}

// process is one process's CPU seconds and resident bytes, from /proc/PID/stat (proc(5)).
type process struct{ cpu, rss float64 }

func processOf(pid string) process {
	bytes, err := os.ReadFile("/proc/" + pid + "/stat")
	must(err)
	text := string(bytes)
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	number := func(i int) float64 {
		value, err := strconv.ParseFloat(fields[i], 64)
		must(err)
		return value
	}
	return process{(number(11) + number(12)) / ticks(), number(21) * float64(os.Getpagesize())}
}

// machineSeconds are the CPU seconds of all processors in any state but idle.
func machineSeconds() float64 {
	bytes, err := os.ReadFile("/proc/stat")
	must(err)
	total := 0.0
	for i, field := range strings.Fields(strings.SplitN(string(bytes), "\n", 2)[0])[1:9] {
		if value, err := strconv.ParseFloat(field, 64); err == nil && i != 3 && i != 4 {
			total += value
		}
	}
	return total / ticks()
}

var tickOnce sync.Once
var tickRate float64

func ticks() float64 {
	tickOnce.Do(func() {
		output, err := exec.Command("getconf", "CLK_TCK").Output()
		must(err)
		tickRate, err = strconv.ParseFloat(strings.TrimSpace(string(output)), 64)
		must(err)
	})
	return tickRate
}
