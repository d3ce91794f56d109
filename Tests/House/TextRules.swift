import Foundation

/// Rules over one file at a time: length, wording, names. Each takes a file and answers with its breaches.
enum TextRules {
  static let fileLinesMax = 450
  static let functionLinesMax = 60
  static let columnsMax = 110

  static func fileLength(_ file: RepositoryFile) -> [Finding] {
    guard file.isSource, file.path != "Package.swift" else { return [] }
    // A final line break ends the last line and begins no other.
    let count = lines(of: file.text).count - (file.text.hasSuffix("\n") ? 1 : 0)
    guard count > fileLinesMax else { return [] }
    return [Finding(path: file.path, line: count, message: "\(count) lines, at most \(fileLinesMax)")]
  }

  static func functionLength(_ file: RepositoryFile) -> [Finding] {
    guard file.isSource else { return [] }
    let source = ScannedSource(file.text, isC: file.isC)
    let functions = file.isC ? FunctionScan.cFunctions(in: source) : FunctionScan.swiftFunctions(in: source)
    return functions.filter { $0.lineCount > functionLinesMax }.map {
      Finding(
        path: file.path, line: $0.firstLine,
        message: "\($0.name) has \($0.lineCount) lines, at most \(functionLinesMax)")
    }
  }

  /// A line that holds an address of the web may be longer, since such an address cannot be broken.
  static func lineLength(_ file: RepositoryFile) -> [Finding] {
    guard file.isSource else { return [] }
    return lines(of: file.text).enumerated().compactMap { index, line in
      guard line.count > columnsMax, !line.contains("://") else { return nil }
      return Finding(
        path: file.path, line: index + 1, message: "\(line.count) columns, at most \(columnsMax)")
    }
  }

  /// Work left undone, and crashes that do not say why.
  static func bannedWords(_ file: RepositoryFile) -> [Finding] {
    guard file.isSource, !isAboutTheRules(file) else { return [] }
    return lines(of: file.text).enumerated().flatMap { index, line in
      bannedForms.filter { line.range(of: $0.pattern, options: .regularExpression) != nil }.map {
        Finding(path: file.path, line: index + 1, message: $0.message)
      }
    }
  }

  /// An unchecked promise to the compiler carries its reason beside it.
  static func uncheckedSendable(_ file: RepositoryFile) -> [Finding] {
    guard file.isSwift, !isAboutTheRules(file), file.text.contains("@unchecked") else { return [] }
    let source = ScannedSource(file.text)
    return lines(of: String(decoding: source.code, as: UTF8.self)).enumerated().compactMap { index, line in
      let number = index + 1
      guard line.contains("@unchecked"), source.commentLines.isDisjoint(with: number - 3...number) else {
        return nil
      }
      return Finding(
        path: file.path, line: number, message: "@unchecked without a comment that gives the reason")
    }
  }

  /// `try!` and `!` after a value: bad input would be a crash. Tests may.
  static func forcedValues(_ file: RepositoryFile) -> [Finding] {
    guard file.isSwift, !file.path.hasPrefix("Tests/") else { return [] }
    let source = ScannedSource(file.text)
    return lines(of: String(decoding: source.code, as: UTF8.self)).enumerated().compactMap { index, line in
      let form = #"\btry!|[A-Za-z0-9_)\]]!($|[^=])"#
      guard line.range(of: form, options: .regularExpression) != nil else { return nil }
      return Finding(
        path: file.path, line: index + 1, message: "a value is taken by force: handle its absence")
    }
  }

  /// SQL belongs to the two stores, where the schema is.
  static func straySQL(_ file: RepositoryFile) -> [Finding] {
    guard file.isSwift, !isAboutTheRules(file) else { return [] }
    let stores = ["Sources/", "Tests/"].flatMap { [$0 + "EngramStore/", $0 + "EngramClientStore/"] }
    guard !stores.contains(where: file.path.hasPrefix) else { return [] }
    return ScannedSource(file.text).literals.compactMap { literal in
      let form = #"\b(SELECT|INSERT|UPDATE|DELETE|CREATE) "#
      guard literal.text.range(of: form, options: .regularExpression) != nil else { return nil }
      return Finding(path: file.path, line: literal.line, message: "SQL outside the two stores")
    }
  }

  /// Names that say nothing about what is inside.
  static func fileNames(_ file: RepositoryFile) -> [Finding] {
    let form = #"(^|[^A-Za-z]|[a-z])(Utils?|Helpers?|Manager|Misc|Common)$"#
    return file.path.split(separator: "/").compactMap { part in
      let stem = part.split(separator: ".").first.map(String.init) ?? ""
      let capitalised = stem.prefix(1).uppercased() + stem.dropFirst()
      guard capitalised.range(of: form, options: .regularExpression) != nil else { return nil }
      return Finding(path: file.path, line: 1, message: "the name \(stem) says nothing")
    }
  }

  /// Folders of the machine that something was written on mean nothing elsewhere. Split here, so that this
  /// very file is not a breach.
  static let machineFolders = ["work", "opt/swift"].map { "/" + $0 + "/" }

  static func machinePaths(_ file: RepositoryFile) -> [Finding] {
    lines(of: file.text).enumerated().flatMap { index, line in
      machineFolders.compactMap { folder in
        let form = #"(^|[^A-Za-z0-9._~/-])"# + NSRegularExpression.escapedPattern(for: folder)
        guard line.contains(folder), line.range(of: form, options: .regularExpression) != nil else {
          return nil
        }
        return Finding(path: file.path, line: index + 1, message: "a path of one machine: \(folder)")
      }
    }
  }

  /// Relative links of a Markdown file that lead nowhere.
  static func deadLinks(_ file: RepositoryFile, exists: (String) -> Bool) -> [Finding] {
    guard file.isMarkdown else { return [] }
    let folder = file.path.split(separator: "/").dropLast().map(String.init)
    var isInsideFence = false
    return lines(of: file.text).enumerated().flatMap { index, line -> [Finding] in
      if line.hasPrefix("```") { isInsideFence.toggle() }
      guard !isInsideFence else { return [] }
      return line.matches(of: #/\]\(([^)#\s]+)(?:#[^)]*)?\)/#).compactMap { match in
        let target = String(match.1)
        guard !target.contains("://"), !target.hasPrefix("mailto:") else { return nil }
        guard let path = resolved(target, in: folder), exists(path) else {
          return Finding(path: file.path, line: index + 1, message: "the link leads nowhere: \(target)")
        }
        return nil
      }
    }
  }

  // MARK: - Parts

  private static let bannedForms: [(pattern: String, message: String)] = [
    (#"\b(TODO|FIXME|XXX)\b"#, "work left undone: finish it, or write an issue"),
    (#"\bfatalError\(\s*\)"#, "a crash has to say why: fatalError(\"…\")"),
  ]

  /// The samples of these rules are breaches on purpose.
  private static func isAboutTheRules(_ file: RepositoryFile) -> Bool { file.path.hasPrefix("Tests/House/") }

  private static func lines(of text: String) -> [Substring] {
    text.split(separator: "\n", omittingEmptySubsequences: false)
  }

  /// `target` as seen from `folder`, nil when it leaves the repository.
  private static func resolved(_ target: String, in folder: [String]) -> String? {
    var parts = folder
    for part in target.split(separator: "/") where part != "." {
      if part != ".." {
        parts.append(String(part))
      } else if parts.popLast() == nil {
        return nil
      }
    }
    return target.hasPrefix("/") ? nil : parts.joined(separator: "/")
  }
}
