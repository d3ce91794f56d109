import Dispatch
import Foundation
import Synchronization

/// The nodes that run now, so that they end with this program, also when somebody interrupts it.
enum Children {
  private static let pids = Mutex<Set<Int32>>([])
  private static let sources = Mutex<[any DispatchSourceSignal]>([])

  static func add(_ pid: Int32) { pids.withLock { _ = $0.insert(pid) } }
  static func remove(_ pid: Int32) { pids.withLock { _ = $0.remove(pid) } }

  static func endAll() {
    for pid in pids.withLock({ $0 }) { kill(pid, SIGTERM) }
  }

  /// SIGINT and SIGTERM end the nodes first.
  static func endWithSignals() {
    for number in [SIGINT, SIGTERM] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number)
      source.setEventHandler {
        endAll()
        exit(128 + number)
      }
      source.resume()
      sources.withLock { $0.append(source) }
    }
  }
}
