import EngramCore
import EngramStore

extension Organisation {
  /// Everything that the node has written into its audit so far. The node must not run.
  func auditLeaves() throws -> [AuditLeaf] {
    let store = try Store(path: data + "/node.db")
    defer { try? store.close() }
    let rows = try store.read { try $0.auditRows(after: 0, limit: 100_000) }
    return try rows.flatMap { try AuditLeaf.decode($0.leaves[...]) }
  }
}
