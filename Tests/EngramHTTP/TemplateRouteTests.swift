import EngramCore
import EngramNode
import TestSupport
import Testing

@testable import EngramHTTP

@Suite("templates over TLS")
struct TemplateRouteTests {
  private let review = #"{"name":"review","body":"Review {{what}}","parameters":[{"name":"what"}]}"#

  private func put(
    _ name: String, _ bearer: String?, _ body: String, type: String = "application/json"
  ) -> RawRequest {
    var headers = bearer.map { [("authorization", "Bearer \($0)")] } ?? []
    headers += [("content-type", type), ("content-length", "\(body.utf8.count)")]
    return RawRequest(
      method: "PUT", path: "/api/v1/templates/\(name)", headers: headers, body: Array(body.utf8))
  }

  @Test("a template is put, read by version, and listed with what the node knows about it")
  func life() async throws {
    try await withEdge { edge in
      let alice = try await edge.session(try await edge.enrol("alice@acme.example"))
      let bob = try await edge.session(try await edge.enrol("bob@acme.example"))
      let first = try await edge.once(put("review", alice, review))
      #expect(first.status == 201 && first.json["version"] as? Int == 1)
      let next = review.replacing("Review", with: "Check")
      #expect(try await edge.once(put("review", alice, next)).json["version"] as? Int == 2)
      #expect(try await edge.once(put("review", alice, next)).json["version"] as? Int == 2)

      let path = "/api/v1/templates"
      let newest = try await edge.once(.get("\(path)/review", bearer: bob))
      #expect(newest.status == 200 && newest.json["document"] as? String == next)
      #expect(newest.json["author"] as? String == "alice@acme.example")
      #expect((newest.json["created_ms"] as? Int ?? 0) > 0)
      let old = try await edge.once(.get("\(path)/review?version=1", bearer: bob))
      #expect(old.json["document"] as? String == review)
      let taken = try await edge.once(put("review", bob, review))
      #expect(taken.status == 403 && taken.code == 400)

      _ = try await edge.once(put("other", bob, review.replacing("\"review\"", with: "\"other\"")))
      let page = try await edge.once(.get("\(path)?max=1", bearer: bob))
      #expect((page.json["templates"] as? [[String: Any]])?.map { $0["name"] as? String } == ["other"])
      #expect(page.json["more"] as? Bool == true)
      let rest = try await edge.once(.get("\(path)?after=other", bearer: bob))
      #expect((rest.json["templates"] as? [[String: Any]])?.map { $0["version"] as? Int } == [2])
      #expect(rest.json["more"] as? Bool == false)
    }
  }

  @Test("what is no template, and what is not there, is refused with its code; nothing without a session")
  func refusals() async throws {
    try await withEdge { edge in
      let bearer = try await edge.session(try await edge.enrol("alice@acme.example"))
      let path = "/api/v1/templates"
      let cases: [(RawRequest, Int, Int)] = [
        (put("review", bearer, "{"), 400, 416), (put("review", bearer, "[]"), 400, 416),
        (put("review", bearer, #"{"name":"review"}"#), 400, 416),
        (put("other", bearer, review), 400, 416),
        (put("Review", bearer, #"{"name":"Review","body":""}"#), 400, 416),
        (put("review", bearer, review, type: "text/plain"), 415, 407),
        (.get("\(path)/review", bearer: bearer), 404, 404),
        (.get("\(path)/review?version=0", bearer: bearer), 400, 100),
        (.get("\(path)/review?revision=1", bearer: bearer), 400, 100),
        (.get("\(path)?max=0", bearer: bearer), 400, 100),
        (.get("\(path)?version=1", bearer: bearer), 400, 100),
        (put("review", nil, review), 401, 210), (.get(path, bearer: nil), 401, 210),
        (.get("\(path)/review", bearer: nil), 401, 210),
      ]
      for (request, status, code) in cases {
        let answer = try await edge.once(request)
        #expect(answer.status == status && answer.code == code, "\(request.path): \(answer.text)")
      }
      #expect(try await edge.once(put("review", bearer, review)).status == 201, "the control")
    }
  }
}
