package main

import (
	"log"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

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
