SwaggerUIBundle({url:"/openapi.json",dom_id:"#app",deepLinking:!0,tryItOutEnabled:!0,persistAuthorization:!1,validatorUrl:null});
