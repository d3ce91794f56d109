import Glibc

/// CPU time and memory of one process at one moment, from `/proc/PID/stat` and `status` (proc(5)).
struct ProcessSample: Sendable {
  /// User and system time since the process began; the kernel counts in ticks of 10 ms.
  let cpuSeconds: Double
  let rssBytes: Int

  /// nil when there is no such process.
  init?(pid: Int32) {
    guard let stat = readSmallFile("/proc/\(pid)/stat"), let end = stat.lastIndex(of: ")") else { return nil }
    // Fields count from 1; the name before the parenthesis is the second and may hold spaces.
    let fields = stat[stat.index(after: end)...].split(separator: " ")
    guard fields.count > 21, let user = Double(fields[11]), let system = Double(fields[12]),
      let pages = Int(fields[21])
    else { return nil }
    cpuSeconds = (user + system) / ticksPerSecond
    rssBytes = pages * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  static var own: ProcessSample? { ProcessSample(pid: getpid()) }
}

/// Everything that is sampled at the edges of a measurement.
struct MachineSample: Sendable {
  let timeNs: UInt64
  /// CPU seconds of all processors in any state but idle, since boot.
  let busySeconds: Double
  let generatorSeconds: Double
  let nodes: [ProcessSample]

  init(pids: [Int32]) {
    timeNs = monotonicNs()
    busySeconds = Self.busy()
    generatorSeconds = ProcessSample.own?.cpuSeconds ?? 0
    nodes = pids.compactMap { ProcessSample(pid: $0) }
  }

  private static func busy() -> Double {
    let first = readSmallFile("/proc/stat")?.split(separator: "\n").first ?? ""
    let ticks = first.split(separator: " ").dropFirst().prefix(8).compactMap { Double($0) }
    // user nice system idle iowait irq softirq steal
    return ticks.enumerated().reduce(0) { $0 + ($1.offset == 3 || $1.offset == 4 ? 0 : $1.element) }
      / ticksPerSecond
  }
}

/// What `uptime` calls the load average of the last minute.
func loadAverage() -> Double {
  readSmallFile("/proc/loadavg")?.split(separator: " ").first.flatMap { Double($0) } ?? 0
}

private let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))

/// CLOCK_MONOTONIC in nanoseconds.
func monotonicNs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Sleeps the calling thread until a time of `monotonicNs`.
func sleepUntil(ns: UInt64) {
  var time = timespec(tv_sec: Int(ns / 1_000_000_000), tv_nsec: Int(ns % 1_000_000_000))
  while clock_nanosleep(CLOCK_MONOTONIC, Int32(TIMER_ABSTIME), &time, nil) == EINTR {}
}

/// Milliseconds since 1970.
func wallClockMs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return UInt64(time.tv_sec) * 1_000 + UInt64(time.tv_nsec) / 1_000_000
}

/// Files of `/proc` have no size, so they are read until they end.
func readSmallFile(_ path: String) -> String? {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 4_096)
  while true {
    let count = read(descriptor, &chunk, chunk.count)
    guard count > 0 else { return count == 0 ? String(decoding: bytes, as: UTF8.self) : nil }
    bytes += chunk[..<count]
  }
}
