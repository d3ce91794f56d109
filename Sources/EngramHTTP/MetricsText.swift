/// Prometheus text exposition format 0.0.4: samples grouped by name, one `# TYPE` line each.
package func metricsText(_ samples: [MetricSample]) -> String {
  var order: [String] = []
  var groups: [String: [MetricSample]] = [:]
  for sample in samples {
    if groups[sample.name] == nil { order.append(sample.name) }
    groups[sample.name, default: []].append(sample)
  }
  var out = ""
  for name in order {
    guard let group = groups[name], let kind = group.first?.kind else { continue }
    out += "# TYPE \(name) \(kind.rawValue)\n"
    for sample in group { out += "\(name)\(labelText(sample.labels)) \(numberText(sample.value))\n" }
  }
  return out
}

private func labelText(_ labels: [(String, String)]) -> String {
  guard !labels.isEmpty else { return "" }
  return "{" + labels.map { "\($0.0)=\"\(escaped($0.1))\"" }.joined(separator: ",") + "}"
}

private func escaped(_ value: String) -> String {
  var out = ""
  for character in value {
    switch character {
    case "\\": out += "\\\\"
    case "\"": out += "\\\""
    case "\n": out += "\\n"
    default: out.append(character)
    }
  }
  return out
}

/// Whole numbers without a fraction, as counters are mostly read by people.
private func numberText(_ value: Double) -> String {
  value.rounded() == value && abs(value) < 9e15 ? String(Int64(value)) : String(value)
}
