//! Documents come back as they were written.

use super::*;

#[tokio::test]
async fn documents_come_back_as_they_were_written() {
    for entry in entries(Shape::Value).into_iter().chain(["{type: json.JSONDataset, filepath: a.json}".to_owned()]) {
        let (project, dataset) = (Project::new(), dataset(&entry));
        assert!(
            matches!(dataset.document().expect("a value").value(&project.stores).await, Err(DataError::Missing { .. })),
            "{entry}"
        );
        let value = if entry.contains("type: text") {
            serde_json::json!("some\ntext é")
        } else {
            serde_json::json!({"a": [1, 2.5, "x", null, true], "b": {"yes": "no"}})
        };
        dataset
            .document()
            .expect("a value")
            .write_value(&project.stores, &value, Fingerprint::of("w"))
            .await
            .expect("writes");
        assert_eq!(dataset.document().expect("a value").value(&project.stores).await.expect("reads"), value, "{entry}");
        assert_eq!(
            dataset.state(&project.stores).await.expect("a state").receipt,
            Some(Fingerprint::of("w")),
            "{entry}"
        );
    }
}
