internal import EngramCore

/// Why a file of a spool was not taken. It stays where it is.
public enum SpoolProblem: Error, Sendable, Equatable {
  /// Not `p{priority}_{timestamp}_{uuid}.json`.
  case name
  /// Not a regular file of its own: a symbolic link, a folder, a device, a second name of some other file.
  case notAFile
  case tooLarge
  /// The operating system did not let us; its error number.
  case unreadable(Int32)
  case notUTF8
  /// Not JSON, or not an object.
  case notJSON
  /// A key that this version does not know. Taking the file would drop what it says.
  case unknownKey(String)
  /// A key that stands twice in one object: one of its values would be dropped.
  case repeatedKey(String)
  /// A key that must be there, or whose value is not what it must be.
  case badValue(String)
  /// File name and document name different messages or priorities.
  case contradiction(String)
  /// The message was refused.
  case refused(EngramError)

  /// Stable, kebab-case.
  public var name: String {
    switch self {
    case .name: "spool-name"
    case .notAFile: "spool-not-a-file"
    case .tooLarge: "spool-too-large"
    case .unreadable: "spool-unreadable"
    case .notUTF8: "spool-not-utf8"
    case .notJSON: "spool-not-json"
    case .unknownKey: "spool-unknown-key"
    case .repeatedKey: "spool-repeated-key"
    case .badValue: "spool-bad-value"
    case .contradiction: "spool-contradiction"
    case .refused(let error): error.name
    }
  }

  /// One sentence, lower case, no final stop.
  public var message: String {
    switch self {
    case .name: "the file name is not p{priority}_{timestamp}_{uuid}.json"
    case .notAFile: "it is not a regular file with one name"
    case .tooLarge: "it is larger than \(SpoolLimits.fileBytesMax) bytes"
    case .unreadable(let code): "it cannot be read (errno \(code))"
    case .notUTF8: "it is not UTF-8"
    case .notJSON: "it is not a JSON object"
    case .unknownKey(let key): "the key '\(shownKey(key))' is not known"
    case .repeatedKey(let key): "the key '\(shownKey(key))' is there twice"
    case .badValue(let key): "'\(shownKey(key))' is missing or not what it must be"
    case .contradiction(let key): "'\(shownKey(key))' says something else than the file name"
    case .refused(let error): error.message
    }
  }
}

/// Bounds of the spool.
enum SpoolLimits {
  /// A body of 10 MiB in base64, and room for the rest.
  static let fileBytesMax = 15 << 20
  /// Messages that are sealed and transmitted together.
  static let batchMax = 100
  /// Bytes of bodies in one batch, so that memory stays bounded.
  static let batchBytesMax = 32 << 20
}
