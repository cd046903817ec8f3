extension JSONValue {
    /// JSON Merge Patch (RFC 7396): members of the patch replace those of the same name, null removes one, objects are merged, anything
    /// else is replaced whole.
    public func merging(_ patch: JSONValue) -> JSONValue {
        guard case .object(let changes) = patch else { return patch }
        var members: [(name: String, value: JSONValue)] = []
        if case .object(let own) = self { members = own }
        for (name, value) in changes {
            let index = members.firstIndex { $0.name.utf8.elementsEqual(name.utf8) }
            switch (index, value) {
            case (let index?, .null): members.remove(at: index)
            case (nil, .null): break
            case (let index?, _): members[index].value = members[index].value.merging(value)
            case (nil, _): members.append((name, JSONValue.object([]).merging(value)))
            }
        }
        return .object(members)
    }
}
