package main

import (
	"sync"
	"sync/atomic"
	"time"
)

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
