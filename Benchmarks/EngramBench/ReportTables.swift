/// Which figures stand in which table, in which order.
struct ReportTable: Sendable {
  struct Column: Sendable {
    let title: String
    let figure: String
    let digits: Int
    init(_ title: String, _ figure: String, _ digits: Int) {
      (self.title, self.figure, self.digits) = (title, figure, digits)
    }
  }

  let title: String
  /// A row belongs to the first table whose marks include one of its figures.
  let marks: [String]
  let columns: [Column]

  /// nil for rows that stand elsewhere.
  static func of(_ figures: Figures) -> ReportTable? {
    guard figures["ed25519_verify_us"] == nil else { return nil }
    return all.first { $0.marks.contains { figures[$0] != nil } } ?? throughput
  }

  static let all = [depth, expiry, topics, agents, idle, consumers, throughput]

  private static let machine = [
    Column("generator cores", "generator_cores", 2), Column("foreign cores", "foreign_cores", 2),
    Column("load", "load_1min", 1),
  ]

  static let throughput = ReportTable(
    title: "Throughput and latency", marks: [],
    columns: [
      Column("accepted/s", "accepted_per_s", 0), Column("delivered/s", "delivered_per_s", 0),
      Column("device receipts/s", "processed_per_s", 0), Column("p50 ms", "p50_ms", 2),
      Column("p99 ms", "p99_ms", 2), Column("CPU µs/msg, nodes", "cpu_nodes_us_per_msg", 1),
      Column("origin", "cpu_origin_us_per_msg", 1), Column("destination", "cpu_destination_us_per_msg", 1),
      Column("RSS MiB", "rss_node_mib", 0), Column("RSS origin", "rss_origin_mib", 0),
      Column("RSS destination", "rss_destination_mib", 0),
    ] + machine)

  static let consumers = ReportTable(
    title: "Consumers of one mailbox, mixed priorities", marks: ["least_share"],
    columns: [
      Column("processed/s", "processed_per_s", 0), Column("to consumer p50 ms", "p50_ms", 1),
      Column("p99 ms", "p99_ms", 1), Column("CRITICAL p99", "p99_critical_ms", 1),
      Column("LOW p99", "p99_low_ms", 1), Column("to receipt p50 ms", "processed_p50_ms", 1),
      Column("p99 ms", "processed_p99_ms", 1), Column("CPU µs/msg, nodes", "cpu_nodes_us_per_msg", 1),
      Column("least share", "least_share", 2), Column("RSS MiB", "rss_node_mib", 0),
    ] + machine)

  static let depth = ReportTable(
    title: "Queue depth", marks: ["enqueue_us_per_msg"],
    columns: [
      Column("fill/s", "fill_per_s", 0), Column("enqueue CPU µs/msg", "enqueue_us_per_msg", 1),
      Column("ms per 1,000", "enqueue_ms_per_1000", 1),
      Column("dequeue CPU µs/msg", "dequeue_us_per_msg", 1), Column("ms per 1,000", "dequeue_ms_per_1000", 1),
      Column("first message ms", "first_ms", 1), Column("ready after kill ms", "ready_after_kill_ms", 0),
      Column("after stop ms", "ready_after_stop_ms", 0), Column("RSS MiB", "rss_node_mib", 0),
      Column("restarted", "rss_restarted_mib", 0), Column("disk MiB", "disk_mib", 0),
      Column("foreign cores", "foreign_cores", 2),
    ])

  static let expiry = ReportTable(
    title: "Expiry at one instant", marks: ["expiry_seconds"],
    columns: [
      Column("seconds", "expiry_seconds", 2), Column("expired/s", "expired_per_s", 0),
      Column("CPU µs each", "expiry_us_per_msg", 1), Column("live p50 before", "before_p50_ms", 2),
      Column("p99 before", "before_p99_ms", 2), Column("p50 during", "during_p50_ms", 2),
      Column("p99 during", "during_p99_ms", 2), Column("max during", "during_max_ms", 1),
      Column("p99 after", "after_p99_ms", 2),
    ] + machine)

  static let topics = ReportTable(
    title: "Topic fan-out", marks: ["published_per_s"],
    columns: [
      Column("publications/s", "published_per_s", 1), Column("deliveries/s", "delivered_per_s", 0),
      Column("to last subscriber p50 ms", "p50_ms", 1), Column("p99 ms", "p99_ms", 1),
      Column("to any p50 ms", "delivery_p50_ms", 1), Column("p99 ms", "delivery_p99_ms", 1),
      Column("CPU µs/delivery, nodes", "cpu_nodes_us_per_msg", 1),
      Column("origin", "cpu_origin_us_per_msg", 1), Column("destination", "cpu_destination_us_per_msg", 1),
    ] + machine)

  static let agents = ReportTable(
    title: "Active agents", marks: ["rss_active_kib"],
    columns: [
      Column("msg/s", "sent_per_s", 0), Column("p50 ms", "p50_ms", 2), Column("p99 ms", "p99_ms", 2),
      Column("KiB per agent, connected", "rss_idle_kib", 1), Column("active", "rss_active_kib", 1),
      Column("RSS MiB", "rss_node_mib", 0), Column("node cores", "cpu_node_cores", 2),
      Column("CPU µs/msg", "cpu_nodes_us_per_msg", 0), Column("connected/s", "agents_connected_per_s", 0),
    ] + machine)

  static let idle = ReportTable(
    title: "Idle connections", marks: ["rss_per_connection_kib"],
    columns: [
      Column("KiB per connection", "rss_per_connection_kib", 1),
      Column("RSS MiB before", "rss_before_mib", 1), Column("after", "rss_node_mib", 1),
      Column("CPU µs to connect", "cpu_connect_us", 0), Column("CPU % while idle", "cpu_idle_percent", 2),
      Column("load", "load_1min", 1),
    ])
}
