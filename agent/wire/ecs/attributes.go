package ecs

// PutAttributesRequest sets custom attributes of instances; the attribute names
// its target.
type PutAttributesRequest struct {
	Cluster    string      `json:"cluster,omitempty"`
	Attributes []Attribute `json:"attributes"`
}

// PutAttributesResponse answers PutAttributes.
type PutAttributesResponse struct {
	Attributes []Attribute `json:"attributes"`
}

// DeleteAttributesRequest removes custom attributes.
type DeleteAttributesRequest struct {
	Cluster    string      `json:"cluster,omitempty"`
	Attributes []Attribute `json:"attributes"`
}

// DeleteAttributesResponse answers DeleteAttributes.
type DeleteAttributesResponse struct {
	Attributes []Attribute `json:"attributes"`
}

// ListAttributesRequest lists attributes by name and value.
type ListAttributesRequest struct {
	Cluster        string `json:"cluster,omitempty"`
	TargetType     string `json:"targetType"`
	AttributeName  string `json:"attributeName,omitempty"`
	AttributeValue string `json:"attributeValue,omitempty"`
	NextToken      string `json:"nextToken,omitempty"`
	MaxResults     int    `json:"maxResults,omitempty"`
}

// ListAttributesResponse answers ListAttributes.
type ListAttributesResponse struct {
	Attributes []Attribute `json:"attributes"`
	NextToken  string      `json:"nextToken,omitempty"`
}

// ListTagsForResourceRequest asks for the tags of one ARN.
type ListTagsForResourceRequest struct {
	ResourceARN string `json:"resourceArn"`
}

// ListTagsForResourceResponse answers ListTagsForResource.
type ListTagsForResourceResponse struct {
	Tags []Tag `json:"tags"`
}

// TagResourceRequest adds tags to one ARN, replacing those with the same key.
type TagResourceRequest struct {
	ResourceARN string `json:"resourceArn"`
	Tags        []Tag  `json:"tags"`
}

// TagResourceResponse is empty.
type TagResourceResponse struct{}

// UntagResourceRequest removes tags by key.
type UntagResourceRequest struct {
	ResourceARN string   `json:"resourceArn"`
	TagKeys     []string `json:"tagKeys"`
}

// UntagResourceResponse is empty.
type UntagResourceResponse struct{}
