/// What the command line decided, for everybody.
struct BenchOptions: Sendable {
  var nodeBinary: String
  /// Nodes live here while they run.
  var directory: String
  /// Leave the nodes' directories behind.
  var keep: Bool
  var runs: Int
  /// Seconds that are measured.
  var duration: Double
  /// Seconds before that.
  var warmup: Double
  var idleSettle: Double
  var bodyBytes: Int
  /// Envelopes sealed beforehand; bounds how much a run can send.
  var poolCount: Int
  var batch: Int
  var connections: Int
  /// Whether the recipient acknowledges in the latency runs.
  var acknowledging: Bool
}
