import Synchronization

/// One number for `/metrics`.
package struct MetricSample: Sendable, Equatable {
  package enum Kind: String, Sendable { case counter, gauge }

  package var name: String
  package var kind: Kind
  package var labels: [(String, String)]
  package var value: Double

  package init(_ name: String, _ kind: Kind, labels: [(String, String)] = [], _ value: Double) {
    (self.name, self.kind, self.labels, self.value) = (name, kind, labels, value)
  }

  package static func == (a: Self, b: Self) -> Bool {
    a.name == b.name && a.kind == b.kind && a.value == b.value && a.labels.elementsEqual(b.labels, by: ==)
  }
}

/// A number that only grows.
package final class EventCounter: Sendable {
  private let value = Atomic<UInt64>(0)
  package init() {}
  func add(_ count: UInt64 = 1) { value.wrappingAdd(count, ordering: .relaxed) }
  package var count: UInt64 { value.load(ordering: .relaxed) }
}

/// What the HTTP edge counts. Labels are routes, methods and statuses: all from small fixed sets.
package final class HTTPMetrics: Sendable {
  private struct RequestKey: Hashable {
    let method: String
    let route: String
    let status: Int
  }

  private struct Tally {
    var count: UInt64 = 0
    var microseconds: UInt64 = 0
  }

  private let requests = Mutex<[RequestKey: Tally]>([:])

  let connectionsRefused = EventCounter()
  let handshakesFailed = EventCounter()
  let refusedRequests = EventCounter()
  let timeouts = EventCounter()
  package let realtimeFramesIn = EventCounter()
  package let realtimeItemsOut = EventCounter()
  let realtimeClosedByUs = EventCounter()
  let envelopesIn = EventCounter()
  let longPolls = EventCounter()
  let signInsLimited = EventCounter()
  let partialsRefused = EventCounter()

  package init() {}

  func request(method: String, route: String, status: Int, microseconds: UInt64) {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD"].contains(method) ? method : "other"
    requests.withLock {
      $0[RequestKey(method: known, route: route, status: status), default: Tally()].count += 1
      $0[RequestKey(method: known, route: route, status: status), default: Tally()].microseconds +=
        microseconds
    }
  }

  package func samples() -> [MetricSample] {
    let tallies = requests.withLock { $0 }.sorted {
      ($0.key.route, $0.key.method, $0.key.status) < ($1.key.route, $1.key.method, $1.key.status)
    }
    func labels(_ key: RequestKey) -> [(String, String)] {
      [("method", key.method), ("route", key.route), ("status", String(key.status))]
    }
    return tallies.map {
      MetricSample("engram_http_requests_total", .counter, labels: labels($0.key), Double($0.value.count))
    }
      + tallies.map {
        MetricSample(
          "engram_http_request_seconds_total", .counter, labels: labels($0.key),
          Double($0.value.microseconds) / 1e6)
      } + plainSamples()
  }

  private func plainSamples() -> [MetricSample] {
    let counters: [(String, EventCounter)] = [
      ("engram_http_connections_refused_total", connectionsRefused),
      ("engram_http_timeouts_total", timeouts),
      ("engram_http_refused_requests_total", refusedRequests),
      ("engram_http_long_polls_total", longPolls),
      ("engram_http_sign_ins_limited_total", signInsLimited),
      ("engram_realtime_partials_refused_total", partialsRefused),
      ("engram_http_envelopes_total", envelopesIn),
      ("engram_realtime_frames_received_total", realtimeFramesIn),
      ("engram_realtime_items_sent_total", realtimeItemsOut),
      ("engram_realtime_closed_by_node_total", realtimeClosedByUs),
      ("engram_tls_handshakes_failed_total", handshakesFailed),
    ]
    return counters.map { MetricSample($0.0, .counter, Double($0.1.count)) }
  }
}
