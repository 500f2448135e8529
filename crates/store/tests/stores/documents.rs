//! Questions about documents.

use std::sync::Arc;

use hearth_store::{Document, DocumentId, Expect, Store, StoreError};

use crate::suite::{ACCOUNT, id, new_function};

fn document(name: &str, body: &str) -> Document {
    Document {
        id: DocumentId { account: ACCOUNT.parse().unwrap(), kind: "role", name: name.into() },
        function: None,
        body: body.to_owned(),
        revision_id: String::new(),
    }
}

pub(crate) async fn a_document_is_written_by_who_expects_what_is_there(store: &Arc<dyn Store>) {
    let put = |body: &'static str, expect| store.put_document(document("r", body), expect);
    assert_eq!(put("early", Expect::Revision("none")).await.unwrap(), None);
    let first = put("first", Expect::Nothing).await.unwrap().unwrap();
    assert_eq!(store.document(&first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(put("again", Expect::Nothing).await.unwrap(), None);
    assert_eq!(put("stale", Expect::Revision("another")).await.unwrap(), None);
    let second = put("second", Expect::Revision(&first.revision_id)).await.unwrap().unwrap();
    assert_ne!(second.revision_id, first.revision_id);
    let third = put("third", Expect::Anything).await.unwrap().unwrap();
    assert_eq!(store.document(&first.id).await.unwrap().unwrap().body, "third");
    assert!(!store.delete_document(&first.id, Expect::Revision(&second.revision_id)).await.unwrap());
    assert!(store.delete_document(&first.id, Expect::Revision(&third.revision_id)).await.unwrap());
    assert!(!store.delete_document(&first.id, Expect::Anything).await.unwrap());
    assert_eq!(store.document(&first.id).await.unwrap(), None);
}

pub(crate) async fn documents_are_listed_by_kind_in_order_of_their_names(store: &Arc<dyn Store>) {
    for name in ["c", "a", "b"] {
        store.put_document(document(name, name), Expect::Nothing).await.unwrap();
    }
    let mut other = document("d", "");
    other.id.kind = "policy";
    store.put_document(other, Expect::Nothing).await.unwrap();
    let account = ACCOUNT.parse().unwrap();
    let names = |found: Vec<Document>| found.iter().map(|one| one.id.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(store.list_documents(&account, "role", "", 2).await.unwrap()), ["a", "b"]);
    assert_eq!(names(store.list_documents(&account, "role", "b", 2).await.unwrap()), ["c"]);
    let nobody = "210987654321".parse().unwrap();
    assert!(store.list_documents(&nobody, "role", "", 2).await.unwrap().is_empty());
    let mut another = document("b", "of another");
    another.id.account = nobody;
    store.put_document(another.clone(), Expect::Nothing).await.unwrap();
    let all = store.all_documents("role").await.unwrap();
    assert_eq!(all.iter().map(|one| &*one.id.name).collect::<Vec<_>>(), ["a", "b", "c", "b"]);
    assert_eq!((&all[3].id, &*all[3].body), (&another.id, "of another"));
    assert!(store.all_documents("none").await.unwrap().is_empty());
}

pub(crate) async fn a_document_of_a_function_goes_with_it(store: &Arc<dyn Store>) {
    let owner = id(ACCOUNT, "f");
    let mut own = document("f", "x");
    own.function = Some("f".into());
    let missing = store.put_document(own.clone(), Expect::Anything).await;
    assert!(matches!(missing, Err(StoreError::NotFound(function)) if function == owner));
    store.create_function(new_function(owner.clone(), 1)).await.unwrap();
    store.put_document(own.clone(), Expect::Anything).await.unwrap();
    store.put_document(document("free", ""), Expect::Anything).await.unwrap();
    store.delete_function(&owner).await.unwrap();
    assert_eq!(store.document(&own.id).await.unwrap(), None);
    assert!(store.document(&document("free", "").id).await.unwrap().is_some());
}
