package main

import (
	"encoding/binary"
	"fmt"
	"log"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

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
