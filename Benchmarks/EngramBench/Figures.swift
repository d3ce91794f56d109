/// Named figures of one run; a name ends with its unit, or with `_per_s`.
typealias Figures = [String: Double]

func median(_ values: [Double]) -> Double {
  let sorted = values.sorted()
  guard !sorted.isEmpty else { return .nan }
  let middle = sorted.count / 2
  return sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
}

/// The smallest value that at least `share` of all values do not exceed (nearest rank).
func percentile(_ sorted: [UInt32], _ share: Double) -> Double {
  guard !sorted.isEmpty else { return .nan }
  let rank = Int((share * Double(sorted.count)).rounded(.up))
  return Double(sorted[min(max(rank, 1), sorted.count) - 1])
}

/// p50, p99 and maximum in milliseconds, from microseconds.
func latencyFigures(_ micros: [UInt32]) -> Figures {
  guard !micros.isEmpty else { return [:] }
  let sorted = micros.sorted()
  return [
    "p50_ms": percentile(sorted, 0.5) / 1_000, "p99_ms": percentile(sorted, 0.99) / 1_000,
    "max_ms": percentile(sorted, 1) / 1_000, "latency_samples": Double(sorted.count),
  ]
}

/// What the nodes, the load generator and everybody else spent between two samples, for `messages` messages.
func costFigures(_ before: MachineSample, _ after: MachineSample, names: [String], messages: Int) -> Figures {
  let seconds = Double(after.timeNs - before.timeNs) / 1e9
  var figures: Figures = ["seconds": seconds, "load_1min": loadAverage()]
  var nodesTotal = 0.0
  for (name, pair) in zip(names, zip(before.nodes, after.nodes)) {
    let used = pair.1.cpuSeconds - pair.0.cpuSeconds
    nodesTotal += used
    if messages > 0 { figures["cpu_\(name)_us_per_msg"] = used / Double(messages) * 1e6 }
    figures["cpu_\(name)_cores"] = used / seconds
    figures["rss_\(name)_mib"] = Double(pair.1.rssBytes) / 1_048_576
  }
  let generator = after.generatorSeconds - before.generatorSeconds
  if messages > 0 {
    figures["cpu_nodes_us_per_msg"] = nodesTotal / Double(messages) * 1e6
    figures["cpu_generator_us_per_msg"] = generator / Double(messages) * 1e6
  }
  figures["generator_cores"] = generator / seconds
  figures["foreign_cores"] = (after.busySeconds - before.busySeconds - nodesTotal - generator) / seconds
  return figures
}

/// All runs of one scenario under one set of parameters.
struct ScenarioResult: Codable, Sendable {
  var scenario: String
  /// `batch=32 window=2048`: what the runs were started with.
  var parameters: String
  var medians: Figures
  var runs: [Figures]

  init(_ scenario: String, _ parameters: String, runs: [Figures]) {
    (self.scenario, self.parameters, self.runs) = (scenario, parameters, runs)
    let names = Set(runs.flatMap(\.keys))
    medians = Figures(
      uniqueKeysWithValues: names.map { name in (name, median(runs.compactMap { $0[name] })) })
  }

  /// Median, with the extremes of the runs behind it.
  func text(_ name: String, digits: Int) -> String {
    let values = runs.compactMap { $0[name] }.filter(\.isFinite)
    guard let low = values.min(), let high = values.max() else { return "" }
    let middle = decimal(median(values), digits)
    return values.count == 1 || decimal(low, digits) == decimal(high, digits)
      ? middle : "\(middle) (\(decimal(low, digits))–\(decimal(high, digits)))"
  }
}

/// A number with a fixed count of decimals.
func decimal(_ value: Double, _ digits: Int) -> String {
  guard value.isFinite else { return "" }
  var scale = 1.0
  for _ in 0..<digits { scale *= 10 }
  let scaled = Int((abs(value) * scale).rounded())
  let sign = value < 0 && scaled != 0 ? "-" : ""
  guard digits > 0 else { return sign + String(scaled) }
  let fraction = String(scaled % Int(scale))
  let zeros = String(repeating: "0", count: digits - fraction.count)
  return "\(sign)\(scaled / Int(scale)).\(zeros)\(fraction)"
}
