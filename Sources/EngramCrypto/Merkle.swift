/// Merkle tree of RFC 6962 section 2.1, with the hash functions given by the caller: leaves and inner nodes
/// are hashed under different labels, which is the domain separation that the RFC gets from its prefix bytes.
package struct MerkleTree<Node: Equatable & Sendable>: Sendable {
  private let leaves: [Node]
  private let combine: @Sendable (Node, Node) -> Node

  package init(leaves: [Node], combine: @escaping @Sendable (Node, Node) -> Node) {
    precondition(!leaves.isEmpty, "an empty batch has no root")
    self.leaves = leaves
    self.combine = combine
  }

  package var root: Node { root(0..<leaves.count) }

  /// Root and every leaf's audit path in one pass: O(n log n) hashes would be wasteful for a whole batch.
  package func rootAndPaths() -> (root: Node, paths: [[Node]]) {
    let depth = Int.bitWidth - (leaves.count - 1).leadingZeroBitCount
    var paths = leaves.map { _ in
      var path: [Node] = []
      path.reserveCapacity(depth)
      return path
    }
    let root = collect(0..<leaves.count, into: &paths)
    return (root, paths)
  }

  private func collect(_ range: Range<Int>, into paths: inout [[Node]]) -> Node {
    guard range.count > 1 else { return leaves[range.lowerBound] }
    let middle = range.lowerBound + largestPowerOfTwo(below: range.count)
    let left = collect(range.lowerBound..<middle, into: &paths)
    let right = collect(middle..<range.upperBound, into: &paths)
    for index in range { paths[index].append(index < middle ? right : left) }
    return combine(left, right)
  }

  private func root(_ range: Range<Int>) -> Node {
    guard range.count > 1 else { return leaves[range.lowerBound] }
    let middle = range.lowerBound + largestPowerOfTwo(below: range.count)
    return combine(root(range.lowerBound..<middle), root(middle..<range.upperBound))
  }

  /// The root that `path` leads to from `leaf` at `index` of `count`, or nil when the path has the wrong
  /// length (RFC 9162 section 2.1.3.2).
  package static func root(
    from leaf: Node, index: Int, count: Int, path: [Node], combine: (Node, Node) -> Node
  ) -> Node? {
    guard index < count else { return nil }
    var (position, last) = (index, count - 1)
    var node = leaf
    for sibling in path {
      guard last > 0 else { return nil }
      if position & 1 == 1 || position == last {
        node = combine(sibling, node)
        while position & 1 == 0, position != 0 { (position, last) = (position >> 1, last >> 1) }
      } else {
        node = combine(node, sibling)
      }
      (position, last) = (position >> 1, last >> 1)
    }
    return last == 0 ? node : nil
  }
}

private func largestPowerOfTwo(below count: Int) -> Int {
  1 << (Int.bitWidth - 1 - (count - 1).leadingZeroBitCount)
}
