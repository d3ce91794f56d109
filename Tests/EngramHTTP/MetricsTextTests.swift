import Testing

@testable import EngramHTTP

@Suite("metrics in Prometheus text")
struct MetricsTextTests {
  @Test("samples of one name stand together under one type line, and labels are escaped")
  func rendering() {
    let text = metricsText([
      MetricSample("a_total", .counter, labels: [("x", "1")], 3),
      MetricSample("b", .gauge, 1.5),
      MetricSample("a_total", .counter, labels: [("x", "q\"\\\n"), ("y", "2")], 4),
    ])
    #expect(
      text == """
        # TYPE a_total counter
        a_total{x="1"} 3
        a_total{x="q\\"\\\\\\n",y="2"} 4
        # TYPE b gauge
        b 1.5

        """)
  }

  @Test("requests are counted by route and status, with methods from a fixed set")
  func requests() {
    let metrics = HTTPMetrics()
    metrics.request(method: "GET", route: "/x", status: 200, microseconds: 1_500_000)
    metrics.request(method: "GET", route: "/x", status: 200, microseconds: 500_000)
    metrics.request(method: "BREW", route: "/x", status: 404, microseconds: 0)
    let samples = metrics.samples()
    let get = [("method", "GET"), ("route", "/x"), ("status", "200")]
    #expect(samples.contains(MetricSample("engram_http_requests_total", .counter, labels: get, 2)))
    #expect(samples.contains(MetricSample("engram_http_request_seconds_total", .counter, labels: get, 2)))
    let other = [("method", "other"), ("route", "/x"), ("status", "404")]
    #expect(samples.contains(MetricSample("engram_http_requests_total", .counter, labels: other, 1)))
  }

  @Test("the kernel's figures about this process are there")
  func process() {
    let samples = processSamples()
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
      #expect(samples.first { $0.name == name }.map { $0.value > 0 } == true, "\(name)")
    }
  }
}
