import Glibc

/// This process as the kernel sees it, under the names that Prometheus client libraries agree on. Empty where
/// `/proc` is not mounted.
package func processSamples() -> [MetricSample] {
  var samples: [MetricSample] = []
  if let pages = readSmallFile("/proc/self/statm")?.split(separator: " ").dropFirst().first.flatMap({
    Double($0)
  }) {
    samples.append(MetricSample("process_resident_memory_bytes", .gauge, pages * Double(getpagesize())))
  }
  if let seconds = cpuSeconds() {
    samples.append(MetricSample("process_cpu_seconds_total", .counter, seconds))
  }
  if let directory = opendir("/proc/self/fd") {
    var count = -3  // `.`, `..` and the directory itself
    while readdir(directory) != nil { count += 1 }
    closedir(directory)
    samples.append(MetricSample("process_open_fds", .gauge, Double(max(count, 0))))
  }
  return samples
}

/// Fields 14 and 15 of `/proc/self/stat`, counted after the command name, which may hold spaces.
private func cpuSeconds() -> Double? {
  guard let stat = readSmallFile("/proc/self/stat"), let end = stat.lastIndex(of: ")") else { return nil }
  let fields = stat[stat.index(after: end)...].split(separator: " ")
  let ticksPerSecond = sysconf(Int32(_SC_CLK_TCK))
  guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]), ticksPerSecond > 0
  else {
    return nil
  }
  return (user + system) / Double(ticksPerSecond)
}

private func readSmallFile(_ path: String) -> String? {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var bytes = [UInt8](repeating: 0, count: 4_096)
  let count = read(descriptor, &bytes, bytes.count)
  guard count > 0 else { return nil }
  return String(decoding: bytes[..<count], as: UTF8.self)
}
