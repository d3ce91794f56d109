import Foundation

/// Real files to send: a sample over all sizes that a message's body may have.
struct Corpus {
  struct Item: Sendable {
    let path: String
    let size: Int
  }

  let files: [Item]
  var byteCount: Int { files.reduce(0) { $0 + $1.size } }
  var sizeRange: String { "\(files.first?.size ?? 0) bytes to \(byteText(files.last?.size ?? 0))" }

  /// Inline bodies end here; larger files are attachments.
  private static let bodyBytesMax = 10 << 20
  /// The largest files are always taken: they travel in parts.
  private static let largestCount = 4

  init(folders: [String], count: Int) throws {
    var found: [Item] = []
    for folder in folders {
      let walker = FileManager.default.enumerator(
        at: URL(fileURLWithPath: folder), includingPropertiesForKeys: [.isRegularFileKey, .fileSizeKey])
      for case let url as URL in walker ?? .init() {
        guard let values = try? url.resourceValues(forKeys: [.isRegularFileKey, .fileSizeKey]),
          values.isRegularFile == true, let size = values.fileSize, size <= Self.bodyBytesMax,
          FileManager.default.isReadableFile(atPath: url.path)
        else { continue }
        found.append(Item(path: url.path, size: size))
      }
    }
    guard !found.isEmpty else { throw DemoFailure("no files under \(folders.joined(separator: " and "))") }
    found.sort { ($0.size, $0.path) < ($1.size, $1.path) }
    guard found.count > count else {
      files = found
      return
    }
    let largest = found.suffix(min(Self.largestCount, count))
    let rest = found.dropLast(largest.count)
    let wanted = max(count - largest.count, 0)
    files = (0..<wanted).map { rest[$0 * rest.count / wanted] } + largest
  }
}
