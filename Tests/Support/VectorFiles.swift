import EngramCore
package import Foundation

/// Bytes as vector files hold them: lower-case hexadecimal.
package struct HexBytes: Codable, Hashable, Sendable {
  package var bytes: [UInt8]
  package init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let bytes = EngramCore.bytes(hex: try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not lower-case hexadecimal")
    }
    self.bytes = bytes
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(hex(bytes))
  }
}

/// A file of this repository, for tests that compare it with the code.
package func repositoryData(_ path: String) throws -> Data {
  let top = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  return try Data(contentsOf: top.appendingPathComponent(path))
}

/// Decodes `Tests/Vectors/NAME.json`; snake_case there is camelCase here.
package func vectors<T: Decodable>(_ name: String, as type: T.Type = T.self) throws -> T {
  let decoder = JSONDecoder()
  decoder.keyDecodingStrategy = .convertFromSnakeCase
  return try decoder.decode(type, from: try repositoryData("Tests/Vectors/\(name).json"))
}
